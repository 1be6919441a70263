"""Routes, addresses and host names that are missing at the first start."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import assert_balanced
from .daemons import serving
from .lab import Lab
from .relays import Ingress, relaying
from .test_command import command
from .test_hosts import hosts_file
from .traffic import payloads

GOOD = "239.1.81.1%in0:5001,name=good to 239.2.81.1%out0:6001"
NO_ROUTE = "239.1.81.2%in0:5001,name=late to 10.9.81.9:7000"
NO_ADDRESS = "10.1.81.7:5001,name=late to 239.2.81.2%out0:6001"
NO_ROUTE_V6 = "239.1.81.2%in0:5001,name=late to [fd09:81::9]:7000"
NO_ADDRESS_HERE = "10.1.81.7%in0:5001,name=late to 239.2.81.2%out0:6001"
NO_ADDRESS_V6 = "[fd01:81::7]:5001,name=late to 239.2.81.2%out0:6001"
NO_NAME = "239.1.81.2%in0:5001,name=late to studio.example:7000"
COMES_S = 15.0
"""In which what waits is to relay: a look-up is tried each second or two."""


def add_route(lab: Lab) -> None:
    """Add routes to the hosts of the rules' outputs."""
    lab.relay.ip("route", "replace", "10.9.81.9/32", "via", "10.2.0.2")
    lab.relay.ip("route", "replace", "fd09:81::9/128", "via", "fd02::2")


def add_address(lab: Lab) -> None:
    """Add the addresses of the rules' inputs."""
    lab.relay.address("in0", "10.1.81.7/24", "fd01:81::7/64")


@contextlib.contextmanager
def tidied(lab: Lab) -> Iterator[None]:
    """Restore the network after the test."""
    try:
        yield
    finally:
        for route in "10.9.81.9/32", "fd09:81::9/128":
            with contextlib.suppress(Exception):
                lab.relay.ip("route", "del", route)
        for address in "10.1.81.7/24", "fd01:81::7/64":
            with contextlib.suppress(Exception):
                lab.relay.ip("addr", "del", address, "dev", "in0")


@pytest.mark.parametrize(
    ("rule", "waits_for", "come"),
    [
        (NO_ROUTE, "there is no route to 10.9.81.9", add_route),
        (NO_ROUTE_V6, "there is no route to fd09:81::9", add_route),
        (NO_ADDRESS, "10.1.81.7 is not an address of this host", add_address),
        (NO_ADDRESS_HERE, "10.1.81.7 is not an address of this host", add_address),
        (NO_ADDRESS_V6, "fd01:81::7 is not an address of this host", add_address),
    ],
)
def test_a_relay_waits(
    lab: Lab, ingress: Ingress, rule: str, waits_for: str, come: Callable[[Lab], None]
) -> None:
    """Other rules relay; the state names what is missing, and the rule goes live later."""
    sent = payloads(20)
    with (
        tidied(lab),
        lab.receive("239.2.81.1", 6001) as receiver,
        relaying(lab.relay, GOOD, rule, ingress=ingress) as relay,
        lab.sender("239.1.81.1", 5001) as sender,
    ):
        assert waits_for in relay.stats().rules[1].state
        sender.send(sent)
        receiver.expect(sent)
        come(lab)
        wait_until(lambda: waits_for not in relay.stats().rules[1].state, COMES_S)
        assert relay.stats().rules[0].matched == len(sent)
        assert_balanced(relay.stats())


@pytest.mark.parametrize("kind", ["unreachable", "prohibit", "blackhole"])
def test_an_unreachable_route_counts_as_missing(lab: Lab, kind: str) -> None:
    """As routing daemons add it until they know a better one."""
    waits_for = "there is no route to 10.9.81.9"
    lab.relay.ip("route", "add", kind, "10.9.81.9/32")
    with tidied(lab), relaying(lab.relay, NO_ROUTE, ingress="udp") as relay:
        assert waits_for in relay.stats().rules[0].state
        add_route(lab)
        wait_until(lambda: waits_for not in relay.stats().rules[0].state, COMES_S)


def test_the_command_waits_for_a_name(lab: Lab, ingress: Ingress) -> None:
    """It has given up root before the name server answers."""
    sent = payloads(20)
    with (
        hosts_file(lab.relay) as hosts,
        lab.receive("10.2.0.2", 7000) as receiver,
        lab.sender("239.1.81.2", 5001) as sender,
        command(lab, NO_NAME, GOOD, "--json", "--ingress", ingress) as relay,
    ):
        relay.wait_ready()
        hosts.write_text("10.2.0.2 studio.example\n")

        def arrives() -> bool:
            sender.send(sent[:1])
            return bool(receiver.drain())

        wait_until(arrives, COMES_S)
        relay.process.send_signal(signal.SIGTERM)
        assert_balanced(relay.report())


@pytest.mark.parametrize(
    ("rule", "waits_for"),
    [
        (NO_ROUTE, "there is no route to 10.9.81.9"),
        (NO_ADDRESS, "10.1.81.7 is not an address of this host"),
        (NO_NAME, "its host name does not resolve"),
    ],
)
def test_the_daemon_waits(lab: Lab, rule: str, waits_for: str) -> None:
    """Rules are accepted, keep their order, and go live when their needs are met."""
    with (
        tidied(lab),
        hosts_file(lab.relay) as hosts,
        serving(lab.relay) as daemon,
        daemon.client() as client,
    ):
        client.add_rules([rule, GOOD])

        def state(named: str) -> str:
            (found,) = (each for each in client.rules() if each.name == named)
            return found.state

        wait_until(lambda: waits_for in state("late"), COMES_S)
        assert state("good").startswith("joined")
        hosts.write_text("10.2.0.2 studio.example\n")
        add_route(lab)
        add_address(lab)
        wait_until(lambda: waits_for not in state("late"), COMES_S)
        assert [each.name for each in client.rules()] == ["late", "good"]


def test_a_mistake_is_refused_beside_waiting_rules(lab: Lab, ingress: Ingress) -> None:
    """No rule of a refused set relays."""
    with lab.relay, pytest.raises(mcr.RuleError, match="rule 2, input, interface"):
        mcr.Relay(NO_ROUTE, "239.1.81.3:5001 to 239.2.81.3%out0:6001", ingress=ingress).open()
