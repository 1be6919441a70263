"""Wrong arguments of all constructors and methods are errors of mcr, whatever they are."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.misuse import misuse, wrong_arguments

import mcr

RULE = "239.1.1.1%lo:5023,name=one to 127.0.0.1:9"
VALID = {
    "frame": b"",
    "group": "239.1.1.1",
    "address": "239.1.1.1",
    "port": 5001,
    "input": mcr.Input("239.1.1.1", 5001, interface="lo"),
    "outputs": [mcr.Output("127.0.0.1", 9)],
    "endpoint": "239.1.1.1%lo:5023",
    "rule": "one",
    "rules": [RULE],
    "text": RULE,
    "value": "2s",
    "interface": "lo",
    "name": "live",
    "rate": "100mbit",
    "traffic_class": mcr.TrafficClass("live"),
}
CONSTRUCTORS = [
    mcr.AsyncClient,
    mcr.AsyncRelay,
    mcr.Client,
    mcr.Expectation,
    mcr.Input,
    mcr.InterfaceRate,
    mcr.Output,
    mcr.Receiver,
    mcr.Relay,
    mcr.Rule,
    mcr.Sender,
    mcr.Shaping.of,
    mcr.TrafficClass,
    mcr.Expectation.parse,
    mcr.Input.parse,
    mcr.Output.parse,
    mcr.parse_frame,
]
METHODS = [
    "add_rule",
    "capture",
    "disable_rule",
    "edit_rule",
    "enable_rule",
    "events",
    "explain",
    "flows",
    "open",
    "remove_class",
    "remove_interface_rate",
    "remove_rule",
    "replace_rules",
    "set_class",
    "set_interface_rate",
    "trace",
]
lasting = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


def end(made: object) -> None:
    """Close what was opened after all."""
    if isinstance(made, mcr.Receiver | mcr.Sender | mcr.TapStream | mcr.RelayEventStream):
        made.close()


@pytest.fixture(scope="module")
def relay() -> Iterator[mcr.Relay]:
    """A relay that relays."""
    with mcr.Relay(RULE, ingress="udp", flows=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def stopped() -> Iterator[mcr.Relay]:
    """A relay that has stopped."""
    with mcr.Relay(ingress="udp") as opened:
        opened.stop()
        yield opened


@pytest.mark.parametrize("make", CONSTRUCTORS, ids=lambda make: make.__qualname__)
@lasting
@given(data=st.data())
def test_constructors(make: Any, data: st.DataObject) -> None:  # noqa: ANN401
    """Of values, relays, clients and test traffic."""
    end(misuse(make, data.draw(wrong_arguments(make, VALID))))


@pytest.mark.parametrize("name", METHODS)
@lasting
@given(data=st.data())
def test_methods_of_a_relay(name: str, data: st.DataObject, relay: mcr.Relay) -> None:
    """While it relays."""
    method = getattr(relay, name)
    end(misuse(method, data.draw(wrong_arguments(method, VALID))))
    relay.replace_rules([RULE])


@lasting
@given(data=st.data())
def test_time_limits_of_a_relay(data: st.DataObject, stopped: mcr.Relay) -> None:
    """It has stopped, so that no wait is as long as it is told to be."""
    misuse(stopped.wait, data.draw(wrong_arguments(stopped.wait, {})))


def test_every_method_of_a_relay_is_tried() -> None:
    """Except those without arguments."""
    calls = {name for name in dir(mcr.Relay) if name[0] != "_"}
    properties = {name for name in calls if isinstance(getattr(mcr.Relay, name), property)}
    without = {"start", "stop", "close", "stats", "resolve_hosts"}
    assert calls - properties - without == {*METHODS, "wait"}


@pytest.mark.parametrize("name", ["send", "receive"])
@lasting
@given(data=st.data())
def test_limits_of_test_traffic(name: str, data: st.DataObject) -> None:
    """Both were stopped, and so return at once."""
    make = mcr.Sender if name == "send" else mcr.Receiver
    with make("239.1.1.1%lo:5023") as ended:
        ended.stop()
        method = getattr(ended, name)
        misuse(method, data.draw(wrong_arguments(method, {})))


@lasting
@given(data=st.data())
def test_time_limits_of_streams(data: st.DataObject, relay: mcr.Relay) -> None:
    """Both have ended, and so wait for nothing."""
    streams: list[mcr.RelayEventStream | mcr.TapStream] = [relay.events(), relay.capture()]
    for stream in streams:
        stream.close()
        misuse(stream.read, data.draw(wrong_arguments(stream.read, {})))


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_diagnose(data: st.DataObject) -> None:
    """Its rules and interfaces."""
    misuse(mcr.diagnose, data.draw(wrong_arguments(mcr.diagnose, {})))


def test_misspelt_names() -> None:
    """Of public names and of options the nearest one is named."""
    with pytest.raises(AttributeError, match="did you mean 'Relay'"):
        mcr.Relais  # noqa: B018 -- looking it up is the test
    with mcr.Relay(RULE, ingress="udp") as relay, pytest.raises(mcr.RuleError, match="mean 'ttl'"):
        relay.edit_rule("one", set_outputs={1: {"tll": 3}})
    with (
        mcr.Relay(RULE, ingress="udp") as relay,
        pytest.raises(mcr.RuleError, match="mean 'source'"),
    ):
        relay.capture(reason="sorce")
