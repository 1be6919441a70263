"""Faults of the host around a relay: an interface that is taken away, a firewall that refuses."""

import contextlib
from collections.abc import Iterator

import pytest
from tests.support.deadline import wait_until

from .checks import settle
from .lab import Lab
from .namespaces import Namespace, Net
from .relays import Ingress
from .test_interfaces import OUT_1, Probe, probing
from .traffic import payloads


@pytest.fixture
def lab(_rights: None) -> Iterator[Lab]:
    """A network that may be taken apart."""
    with Net() as net:
        yield Lab.build(net)


@contextlib.contextmanager
def firewall(namespace: Namespace, group: str) -> Iterator[None]:
    """A firewall that drops what this host sends to one group."""
    namespace.run("nft", "add table ip faults")
    namespace.run("nft", "add chain ip faults out { type filter hook output priority 0; }")
    namespace.run("nft", f"add rule ip faults out ip daddr {group} drop")
    try:
        yield
    finally:
        namespace.run("nft", "delete table ip faults")


@contextlib.contextmanager
def moved_away(namespace: Namespace, interface: str, elsewhere: Namespace) -> Iterator[None]:
    """Move an interface to another namespace and back; the kernel takes its addresses away."""
    namespace.ip("link", "set", interface, "netns", elsewhere.name)
    try:
        yield
    finally:
        elsewhere.ip("link", "set", interface, "netns", namespace.name)


def errors(probe: Probe) -> dict[str, int]:
    """What the second output could not send, by errno."""
    return dict(probe.relay.stats().rules[0].outputs[1].errors)


def test_an_output_that_a_firewall_refuses(lab: Lab, ingress: Ingress) -> None:
    """It alone loses, each copy counted as EPERM; without the firewall it sends at once."""
    with probing(lab, ingress) as probe:
        probe.resumes()
        with firewall(lab.relay, OUT_1):
            probe.first.forget()
            probe.second.forget()
            sent = payloads(100)
            probe.sender.send(sent)
            probe.first.expect(sent)
            wait_until(lambda: errors(probe) == {"EPERM": len(sent)}, what=str(errors(probe)))
        stats = settle(probe.relay, lambda _: True)
        well, refused = stats.rules[0].outputs
        assert well.lost == 0
        assert refused.lost == refused.dropped["send_error"] == len(sent)
        assert probe.second.drain() == []
        probe.resumes()


def test_an_input_that_is_in_another_namespace(lab: Lab, ingress: Ingress) -> None:
    """The rule waits meanwhile and resumes by itself; its counters continue."""
    with probing(lab, ingress) as probe:
        probe.resumes()
        before = settle(probe.relay, lambda _: True).rules[0].matched
        with moved_away(lab.relay, "in0", lab.receiver):
            probe.awaits("unresolved: there is no interface in0")
        lab.relay.ip("link", "set", "in0", "up")
        lab.relay.address("in0", "10.1.0.1/24")
        probe.resumes()
        assert probe.relay.stats().rules[0].matched > before
