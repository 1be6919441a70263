r"""Inputs on interfaces that others receive for: the kernel merges at these.

source namespace        relay namespace
a0 10.8.0.2   -------   p0  \
                                     br0 10.8.0.1
a1 10.8.0.3   -------   p1  /
m0 10.9.0.2   -------   c0 --- mv0 10.9.0.1
"""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import PROCESS_S, settle_sent
from .daemons import serving
from .namespaces import Namespace, Net
from .relays import Ingress, relaying
from .test_command import MCR, NO_CAPABILITIES
from .test_doctor import look
from .traffic import Receiver, Sender, payloads

GROUPS = {4: "239.1.95.1", 6: "ff15::95:1"}
PORT = 5095
COUNT = 20
FLUSH_NS = 200_000_000
"""How long the kernel holds back what may still grow: longer than a busy machine is away."""


@dataclass(frozen=True, slots=True)
class Uppers:
    """A host with a bridge and a macvlan, and its senders."""

    source: Namespace
    relay: Namespace


@pytest.fixture(scope="module")
def uppers(net: Net) -> Uppers:
    """Three cables, at whose ends the relay's host merges."""
    source, relay = net.namespace(), net.namespace()
    for near, far, network, host in (("a0", "p0", 8, 2), ("a1", "p1", 8, 3), ("m0", "c0", 9, 2)):
        net.link(source, near, relay, far)
        source.address(near, f"10.{network}.0.{host}/24", f"fd{network:02}::{host}/64")
        net.set_gro(source, near, relay, far, on=True)
        for name, value in (("gro_flush_timeout", FLUSH_NS), ("napi_defer_hard_irqs", 2)):
            relay.run("sh", "-c", f"echo {value} > /sys/class/net/{far}/{name}")
    relay.ip("link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
    relay.ip("link", "add", "mv0", "link", "c0", "type", "macvlan", "mode", "bridge")
    for port in ("p0", "p1"):
        relay.ip("link", "set", port, "master", "br0")
    for name, network in (("br0", 8), ("mv0", 9)):
        relay.set_up(name, up=True)
        relay.address(name, f"10.{network}.0.1/24", f"fd{network:02}::1/64")
    return Uppers(source, relay)


@contextlib.contextmanager
def sending(
    uppers: Uppers, upper: str, interface: str, group: str
) -> Iterator[tuple[list[bytes], int]]:
    """Send one by one, all of which a program on the interface gets; say in how many frames."""
    sent = payloads(COUNT, (200,))
    with (
        Receiver(uppers.relay, upper, group, PORT) as program,
        Sender(uppers.source, interface, group, PORT) as sender,
    ):
        before = uppers.relay.frames(upper)[0]
        sender.send(sent)
        program.expect(sent)
        yield sent, uppers.relay.frames(upper)[0] - before


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("upper", "cards"), [("br0", ("a0", "a1")), ("mv0", ("m0",))])
def test_datagrams_are_merged_at_the_cards_below(
    uppers: Uppers, ingress: Ingress, family: int, upper: str, cards: tuple[str, ...]
) -> None:
    """Whichever they come by; a program on the same group and port gets each by itself."""
    rule = f"{GROUPS[family]}%{upper}:{PORT} to 127.0.0.1:7095"
    with (
        Receiver(uppers.relay, "lo", "127.0.0.1", 7095) as copies,
        relaying(uppers.relay, rule, ingress=ingress) as relay,
    ):
        for number, card in enumerate(cards, 1):
            with sending(uppers, upper, card, GROUPS[family]) as (sent, frames):
                assert frames < COUNT / 2
                settle_sent(relay, number * COUNT)
        copies.expect(sent * len(cards))


@pytest.mark.parametrize("ingress", ["packet", "udp"])
def test_a_daemon_has_them_merged_too(uppers: Uppers, ingress: str) -> None:
    """Also a port that joins the bridge while the rule runs."""
    rule = f"{GROUPS[4]}%br0:{PORT} to 127.0.0.1:7095"
    with serving(uppers.relay, "--ingress", ingress) as daemon, daemon.client() as client:
        uppers.relay.ip("link", "set", "p1", "nomaster")
        client.add_rule(rule)
        uppers.relay.ip("link", "set", "p1", "master", "br0")
        with sending(uppers, "br0", "a1", GROUPS[4]) as (_, frames):
            assert frames < COUNT / 2
            settle_sent(client, COUNT)


def state(relay: mcr.Relay) -> str:
    """How the only rule is doing."""
    return relay.stats().rules[0].state


def test_an_input_that_is_a_port_of_a_bridge(uppers: Uppers, ingress: Ingress) -> None:
    """`packet` hears it; on `udp` the state names the bridge, until the port leaves it."""
    sent = payloads(COUNT, (200,))
    rule = f"{GROUPS[4]}%p1:{PORT} to 127.0.0.1:7095"
    with (
        relaying(uppers.relay, rule, ingress=ingress) as relay,
        Sender(uppers.source, "a1", GROUPS[4], PORT) as sender,
    ):
        if ingress == "udp":
            expected = (
                "waiting: p1 belongs to br0, a bridge or bond, which takes what arrives there"
            )
            assert state(relay) == f"{expected}; name br0 as the input"
            with sending(uppers, "br0", "a1", GROUPS[4]):
                assert relay.stats().interfaces[0].received == 0
            uppers.relay.ip("link", "set", "p1", "nomaster")
            wait_until(lambda: state(relay).startswith("joined"))
        try:
            sender.send(sent)
            settle_sent(relay, COUNT)
        finally:
            uppers.relay.ip("link", "set", "p1", "master", "br0")


def test_the_doctor_names_the_cards_below(uppers: Uppers) -> None:
    """It switches these, says so of no other, and each command that it gives helps."""
    rule = f"{GROUPS[4]}%mv0:{PORT} to 127.0.0.1:7095"
    for card, upper in (("c0", "mv0"), ("p1", "br0")):
        uppers.relay.offload(card, gro=False)
        told = look(uppers.relay, rule.replace("mv0", upper))["gro"]
        assert (told.interface, told.fix) == (card, f"ethtool -K {card} gro on")
        with uppers.relay, mcr.Relay(rule.replace("mv0", upper), ingress="packet") as relay:
            (said,) = (text for text in relay.warnings if "GRO" in text)
            assert f"GRO is off on {card}, which receives for {upper}, " in said
            assert f"'ethtool -K {card} gro on'" in said
        with uppers.relay:
            assert mcr.doctor.repair(told) is not None
        assert "gro" not in look(uppers.relay, rule.replace("mv0", upper))
    uppers.relay.offload("c0", gro=False)
    with uppers.relay, pytest.raises(mcr.McrError, match="reports success but leaves it off"):
        mcr.doctor.repair(mcr.Finding("gro", "advice", "", "mv0"))
    uppers.relay.offload("c0", gro=True)


def test_the_doctor_on_a_port_of_a_bridge(uppers: Uppers) -> None:
    """With the right for `packet` it works, but for the network's queries; else it does not."""
    rule = f"{GROUPS[4]}%p1:{PORT} to 127.0.0.1:7095"
    told = look(uppers.relay, rule)["port"]
    assert told.severity == "advice"
    assert "queries for members reach br0 alone" in told.text
    bare = uppers.relay.command(*NO_CAPABILITIES, MCR, "doctor", "--json", rule)
    done = subprocess.run(bare, capture_output=True, text=True, timeout=PROCESS_S, check=False)
    (port,) = (each for each in json.loads(done.stdout)["findings"] if each["name"] == "port")
    assert port["severity"] == "problem"
    assert port["text"].endswith("the ingress 'udp' receives nothing; name br0 as the input")


def test_the_doctor_counts_the_groups_of_a_bridge(uppers: Uppers) -> None:
    """A snooping bridge keeps a limited number; with one more it stops snooping."""
    uppers.relay.ip("link", "set", "br0", "type", "bridge", "mcast_snooping", "1")
    try:
        rule = "239.16.0.0/{}%br0:5001 to 127.0.0.1:7095"
        assert "snooping" not in look(uppers.relay, rule.format(21))
        told = look(uppers.relay, rule.format(20).replace(":5001", ":5001,join=each"))["snooping"]
        assert (told.severity, told.interface) == ("problem", "br0")
        assert "a bridge that keeps 4096" in told.text
        assert told.fix is not None
        uppers.relay.run(*told.fix.split())
        assert "snooping" not in look(uppers.relay, rule.format(20))
    finally:
        uppers.relay.ip("link", "set", "br0", "type", "bridge", "mcast_snooping", "0")


def test_a_card_in_another_namespace(net: Net, uppers: Uppers, ingress: Ingress) -> None:
    """As in a container: relayed all the same, and doctor and relay say what helps."""
    inside = net.namespace()
    uppers.relay.ip("link", "add", "in0", "link", "c0", "netns", inside.name, "type", "macvlan")
    inside.set_up("in0", up=True)
    inside.address("in0", "10.9.0.3/24")
    rule = f"{GROUPS[4]}%in0:{PORT} to 127.0.0.1:7095"
    told = look(inside, rule)["gro-below"]
    assert "the card below in0 is in another network namespace" in told.text
    with inside:
        assert mcr.doctor.repair(told) is None
    sent = payloads(COUNT, (200,))
    with (
        Receiver(inside, "lo", "127.0.0.1", 7095) as copies,
        relaying(inside, rule, ingress=ingress) as relay,
        Sender(uppers.source, "m0", GROUPS[4], PORT) as sender,
    ):
        said = any("the card below in0 is in another" in text for text in relay.warnings)
        assert said == (ingress == "packet")
        sender.send(sent)
        copies.expect(sent)
        settle_sent(relay, COUNT)
