"""Interfaces that go, come and change under traffic: rules follow, and others do not notice.

Links are laid and cut here as the tests go, so each test has a network of its own.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import DEADLINE_S, dropped, settle
from .lab import Lab
from .namespaces import Net
from .relays import Ingress, relaying
from .test_memberships import joins, packet_sockets
from .traffic import PacedFlow, Receiver, Sender, payloads

GROUP, OUT_0, OUT_1 = "239.1.100.1", "239.2.100.1", "239.2.100.2"
GROUP_6, OUT_6 = "ff15::100:1", ("ff15::100:2", "ff12::100:3")
RULE = f"{GROUP}%in0:5001 to {OUT_0}%out0:6001 {OUT_1}%out1:6001"
NEIGHBOUR = "239.1.100.9%big:5001 to 239.2.100.9%bigout:6001"
RESUME_S = 1.0
RATE_PPS = 2000
PAIRS = 250
CABLES = {"in0": (1, "s0"), "out1": (3, "d1")}


@pytest.fixture
def lab(_rights: None) -> Iterator[Lab]:
    """A network that may be taken apart."""
    with Net() as net:
        yield Lab.build(net)


def cut(lab: Lab, name: str) -> None:
    """Delete an interface of the relay, and so the other end."""
    lab.relay.ip("link", "del", name)


def lay(lab: Lab, name: str) -> None:
    """Recreate the link of an interface, with a new index and its old addresses."""
    number, far = CABLES[name]
    other = lab.source if far.startswith("s") else lab.receiver
    with Net() as net:
        net.link(other, far, lab.relay, name)
    other.address(far, f"10.{number}.0.2/24", f"fd{number:02x}::2/64")
    lab.relay.address(name, f"10.{number}.0.1/24", f"fd{number:02x}::1/64")


def reaches(sender: Sender, receiver: Receiver) -> bool:
    """Whether a datagram sent now arrives."""
    receiver.forget()
    sender.send([b"probe"])
    with contextlib.suppress(AssertionError):
        receiver.wait_for(1, seconds=0.02)
    return bool(receiver.drain())


@dataclass
class Probe:
    """One stream through a rule, and the receivers of its two outputs."""

    lab: Lab
    relay: mcr.Relay
    sender: Sender
    first: Receiver
    second: Receiver

    def resumes(self, *receivers: Receiver) -> None:
        """All outputs, or these, get something within a second, and then everything."""
        for receiver in receivers or (self.first, self.second):
            wait_until(partial(reaches, self.sender, receiver), RESUME_S, "the rule resumes")
        wait_until(lambda: self.state().startswith("flowing"), what=self.state())
        sent = payloads(50)
        for receiver in receivers or (self.first, self.second):
            receiver.forget()
        self.sender.send(sent)
        for receiver in receivers or (self.first, self.second):
            receiver.expect(sent)

    def state(self) -> str:
        """The state of the rule."""
        return self.relay.stats().rules[0].state

    def awaits(self, state: str, seconds: float = RESUME_S) -> None:
        """Wait until the state is this one."""
        wait_until(lambda: self.state() == state, seconds, f"{state!r}, not {self.state()!r}")

    def renew(self, stack: contextlib.ExitStack, name: str) -> None:
        """Reopen the test's own sockets after a link was recreated."""
        if name == "in0":
            self.sender = stack.enter_context(self.lab.sender(GROUP, 5001))
        else:
            self.second = stack.enter_context(self.lab.receive(OUT_1, 6001, "d1"))


@contextlib.contextmanager
def probing(lab: Lab, ingress: Ingress, rule: str = RULE, *, workers: int = 1) -> Iterator[Probe]:
    """The rule beside one that is never affected: that one loses nothing."""
    with (
        lab.receive("239.2.100.9", 6001, "d2") as untouched,
        lab.receive(OUT_0, 6001) as first,
        lab.receive(OUT_1, 6001, "d1") as second,
        relaying(lab.relay, rule, NEIGHBOUR, ingress=ingress, workers=workers) as relay,
        lab.sender("239.1.100.9", 5001, interface="s1") as steady,
        lab.sender(GROUP, 5001) as sender,
    ):
        with PacedFlow(steady, RATE_PPS) as flow:
            flow.advance(20)
            yield Probe(lab, relay, sender, first, second)
            flow.advance(20)
        untouched.expect(flow.sent)
        stats = settle(relay, lambda stats: stats.rules[1].matched == len(flow.sent))
        assert stats.rules[1].outputs[0].sent == len(flow.sent)
        assert len({interface.name for interface in stats.interfaces}) == len(stats.interfaces)


def test_an_input_that_is_down_or_unplugged(lab: Lab, ingress: Ingress) -> None:
    """The state says so at once, and the rule resumes by itself."""
    with probing(lab, ingress) as probe:
        probe.resumes()
        before = probe.relay.stats().rules[0].matched
        with lab.relay.down("in0"):
            probe.awaits("waiting: in0 is down")
        probe.resumes()
        with lab.source.down("s0"):
            # The kernel itself tells of a carrier at most once a second.
            probe.awaits("waiting: in0 has no carrier", DEADLINE_S)
        probe.resumes()
        assert probe.relay.stats().rules[0].matched > before


@pytest.mark.parametrize("workers", [1, 2])
def test_an_input_that_is_recreated(lab: Lab, ingress: Ingress, workers: int) -> None:
    """Sockets and memberships are reopened under the new index; counters continue."""
    with probing(lab, ingress, workers=workers) as probe, contextlib.ExitStack() as stack:
        probe.resumes()
        for _ in range(2):
            before = settle(probe.relay, lambda _: True)
            index = lab.relay.ifindex("in0")
            cut(lab, "in0")
            probe.awaits("unresolved: there is no interface in0")
            wait_until(lambda: packet_sockets(lab.relay) == workers * (ingress == "packet"))
            lay(lab, "in0")
            assert lab.relay.ifindex("in0") != index
            probe.renew(stack, "in0")
            probe.resumes()
            assert ("in0", GROUP) in joins(lab.relay)
            after = probe.relay.stats()
            assert after.rules[0].matched > before.rules[0].matched
            assert after.rules[0].outputs[0].sent > before.rules[0].outputs[0].sent


def test_an_input_that_is_renamed(lab: Lab, ingress: Ingress) -> None:
    """The rule waits until some interface has its name."""
    with probing(lab, ingress) as probe, contextlib.ExitStack() as stack:
        probe.resumes()
        lab.relay.ip("link", "set", "in0", "name", "other0")
        probe.awaits("unresolved: there is no interface in0")
        wait_until(lambda: ("other0", GROUP) not in joins(lab.relay))
        lab.relay.ip("link", "set", "other0", "name", "in0")
        probe.resumes()
        lab.relay.ip("link", "set", "in0", "name", "other0")
        lab.relay.ip("link", "set", "bare", "name", "in0")
        probe.sender = stack.enter_context(lab.sender(GROUP, 5001, interface="s2"))
        probe.resumes()


def test_an_output_that_is_recreated(lab: Lab, ingress: Ingress) -> None:
    """Only this output is parked; then it sends from the same port, and counters continue."""
    with probing(lab, ingress) as probe, contextlib.ExitStack() as stack:
        probe.resumes()
        port = probe.second.sources[-1][1]
        cut(lab, "out1")
        parked = "; output 2 parked: there is no interface out1"
        wait_until(lambda: probe.state().endswith(parked), RESUME_S, probe.state())
        before = settle(probe.relay, lambda _: True).rules[0]
        sent = payloads(50)
        probe.first.forget()
        probe.sender.send(sent)
        probe.first.expect(sent)
        after = settle(probe.relay, lambda stats: stats.rules[0].matched == before.matched + 50)
        lost = [rule.outputs[1].dropped["no_carrier"] for rule in (before, after.rules[0])]
        assert lost[1] - lost[0] == len(sent)
        lay(lab, "out1")
        probe.renew(stack, "out1")
        probe.resumes()
        assert probe.second.sources[-1] == ("10.3.0.1", port)


def test_both_ends_of_an_ipv6_rule(lab: Lab, ingress: Ingress) -> None:
    """Deleted and recreated, also with link-local groups."""
    rule = f"{GROUP_6}%in0:5001 to {OUT_6[0]}%out0:6001 {OUT_6[1]}%out1:6001"
    with probing(lab, ingress, rule) as probe, contextlib.ExitStack() as stack:
        probe.first = stack.enter_context(lab.receive(OUT_6[0], 6001))
        for _ in range(2):
            probe.sender = stack.enter_context(lab.sender(GROUP_6, 5001))
            probe.second = stack.enter_context(lab.receive(OUT_6[1], 6001, "d1"))
            probe.resumes()
            for name in ("in0", "out1"):
                cut(lab, name)
                lay(lab, name)


def test_an_output_that_is_down(lab: Lab, ingress: Ingress) -> None:
    """It is parked with the reason while it is down, and resumes when it is up."""
    with probing(lab, ingress) as probe:
        with lab.relay.down("out1"):
            parked = "; output 2 parked: out1 is down"
            wait_until(lambda: probe.state().endswith(parked), RESUME_S, probe.state())
            probe.resumes(probe.first)
        probe.resumes()


@pytest.mark.parametrize(
    "output",
    [f"{OUT_1}%out1:6001", "10.3.0.2:6001", "10.3.0.2%out1:6001"],
    ids=["group", "routed", "host"],
)
def test_an_output_whose_address_is_replaced(lab: Lab, ingress: Ingress, output: str) -> None:
    """Copies have the new address and the old port; without an address none is sent."""
    with contextlib.ExitStack() as stack:
        to_host = output.startswith("10.")
        host = stack.enter_context(lab.receive("10.3.0.2", 6001, "d1")) if to_host else None
        rule = f"{GROUP}%in0:5001 to {OUT_0}%out0:6001 {output}"
        probe = stack.enter_context(probing(lab, ingress, rule))
        probe.second = host or probe.second
        probe.resumes()
        source, port = probe.second.sources[-1]
        assert source == "10.3.0.1"
        lab.relay.ip("addr", "del", "10.3.0.1/24", "dev", "out1")
        wait_until(lambda: "output 2 parked" in probe.state(), RESUME_S, probe.state())
        if "%out1" in output:
            assert probe.state().endswith("out1 has no IPv4 address")
        probe.resumes(probe.first)
        lab.relay.address("out1", "10.3.0.77/24")
        probe.resumes()
        assert probe.second.sources[-1] == ("10.3.0.77", port)


def test_interfaces_recreated_under_their_old_index(
    lab: Lab, ingress: Ingress, tmp_path: Path
) -> None:
    """Even if only the messages in between show it."""
    with probing(lab, ingress) as probe, contextlib.ExitStack() as stack:
        probe.resumes()
        indices = {name: lab.relay.ifindex(name) for name in CABLES}
        lines = []
        for name, (number, far) in CABLES.items():
            other = lab.source if far.startswith("s") else lab.receiver
            peer = f"peer name {far} netns {other.name}"
            lines += [
                f"link del {name}",
                f"link add {name} index {indices[name]} type veth {peer}",
                f"link set {name} up",
                f"addr add 10.{number}.0.1/24 dev {name}",
            ]
        batch = tmp_path / "batch"
        batch.write_text("\n".join(lines))
        lab.relay.ip("-batch", str(batch))
        assert indices == {name: lab.relay.ifindex(name) for name in CABLES}
        for number, far in CABLES.values():
            other = lab.source if far.startswith("s") else lab.receiver
            other.address(far, f"10.{number}.0.2/24")
            other.set_up(far, up=True)
        for name in CABLES:
            probe.renew(stack, name)
        probe.resumes()


def test_batches_follow_the_mtu_of_an_output(lab: Lab) -> None:
    """Datagrams too big for a smaller MTU are batched again once they fit."""
    lab.set_offload(on=True)
    with probing(lab, "packet") as probe:
        sent = payloads(40)

        def frames() -> int:
            before = lab.relay.frames("out0")[1]
            probe.first.forget()
            probe.sender.send_super(sent)
            probe.first.expect(sent)
            return lab.relay.frames("out0")[1] - before

        assert frames() < len(sent)
        for namespace, name in ((lab.receiver, "d0"), (lab.relay, "out0")):
            namespace.ip("link", "set", name, "mtu", "1000")
        assert frames() >= 2 * len(sent)
        # What is told later is followed later: then the smaller MTU is known too.
        with lab.relay.down("out1"):
            wait_until(lambda: "out1 is down" in probe.state(), RESUME_S)
        for namespace, name in ((lab.receiver, "d0"), (lab.relay, "out0")):
            namespace.ip("link", "set", name, "mtu", "1500")
        wait_until(lambda: frames() < len(sent), RESUME_S)


def test_missing_interfaces_at_the_start(lab: Lab, ingress: Ingress) -> None:
    """Rules are accepted with a warning, and go live with their interfaces."""
    cut(lab, "in0")
    cut(lab, "out1")
    with contextlib.ExitStack() as stack:
        untouched = stack.enter_context(lab.receive("239.2.100.9", 6001, "d2"))
        relay = stack.enter_context(relaying(lab.relay, RULE, NEIGHBOUR, ingress=ingress))
        first, second = (warning for warning in relay.warnings if "waits for it" in warning)
        assert first.startswith("rule 1, input, interface: there is no interface 'in0'")
        assert second.startswith("rule 1, output 2, interface: there is no interface 'out1'")
        state = relay.stats().rules[0].state
        assert state == (
            "unresolved: there is no interface in0; output 2 parked: there is no interface out1"
        )
        with lab.sender("239.1.100.9", 5001, interface="s1") as steady:
            with PacedFlow(steady, RATE_PPS) as flow:
                flow.advance(20)
                lay(lab, "in0")
                lay(lab, "out1")
                receivers = [
                    stack.enter_context(lab.receive(OUT_0, 6001)),
                    stack.enter_context(lab.receive(OUT_1, 6001, "d1")),
                ]
                sender = stack.enter_context(lab.sender(GROUP, 5001))
                Probe(lab, relay, sender, *receivers).resumes()
            untouched.expect(flow.sent)


def test_a_source_address_that_is_missing(lab: Lab) -> None:
    """The output waits until the host has it."""
    rule = f"{GROUP}%in0:5001 to {OUT_0}%out0:6001 {OUT_1}%out1:6001,source=10.3.0.50"
    with probing(lab, "packet", rule) as probe:
        assert probe.state().endswith("output 2 parked: 10.3.0.50 is not an address of this host")
        lab.relay.address("out1", "10.3.0.50/24")
        probe.resumes()
        assert probe.second.sources[-1][0] == "10.3.0.50"


def test_rules_that_change_while_interfaces_do(lab: Lab, ingress: Ingress) -> None:
    """A rule added at that moment, or kept by a replacement, works like any other."""
    with probing(lab, ingress) as probe, contextlib.ExitStack() as stack:
        probe.resumes()
        matched = probe.relay.stats().rules[0].matched
        other = stack.enter_context(lab.receive("239.2.100.5", 6001))
        cut(lab, "in0")
        lay(lab, "in0")
        with lab.relay:
            probe.relay.add_rule(f"{GROUP}%in0:5001 to 239.2.100.5%out0:6001")
            probe.relay.replace_rules(probe.relay.rules)
        probe.renew(stack, "in0")
        wait_until(partial(reaches, probe.sender, other), RESUME_S)
        probe.resumes()
        assert probe.relay.stats().rules[0].matched > matched


def test_gro_that_is_turned_on_is_followed(lab: Lab) -> None:
    """Buffers fit super-frames as soon as the device merges, without a change of rules."""
    lab.set_offload(on=False)
    rule = "ff15::100:1%in0:5001 to ff15::100:2%out0:6001"
    with (
        probing(lab, "packet", rule) as probe,
        lab.receive("ff15::100:2", 6001) as receiver,
        lab.sender("ff15::100:1", 5001) as sender,
    ):
        sent = payloads(40)
        sender.send(sent)
        receiver.expect(sent)
        lab.set_offload(on=True)

        def passes_whole() -> bool:
            receiver.forget()
            before = dropped(probe.relay.stats(), "in0", "truncated_by_us")
            sender.send_super(sent)
            with contextlib.suppress(AssertionError):
                receiver.wait_for(len(sent), seconds=0.1)
            missed = dropped(probe.relay.stats(), "in0", "truncated_by_us") - before
            return receiver.drain() == sent and missed == 0

        wait_until(passes_whole, RESUME_S)


def test_a_flood_of_links(lab: Lab, ingress: Ingress, tmp_path: Path) -> None:
    """Hundreds of links come and go; afterwards everything is as before."""
    links = tmp_path / "links"
    names = (f"add fl{n} group 77 type veth peer name fm{n}" for n in range(PAIRS))
    links.write_text("".join(f"link {name}\n" for name in names))
    with probing(lab, ingress) as probe, contextlib.ExitStack() as stack:
        probe.resumes()
        lab.relay.ip("-batch", str(links))
        cut(lab, "in0")
        lab.relay.ip("link", "del", "group", "77")
        lay(lab, "in0")
        probe.renew(stack, "in0")
        probe.resumes()
