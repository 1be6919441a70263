"""Alternative names of interfaces work like names, and rules follow them."""

from pathlib import Path

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import DEADLINE_S, settle_sent
from .daemons import serving
from .lab import Lab
from .relays import Ingress, relaying
from .test_interfaces import GROUP, OUT_0, lab, probing
from .test_memberships import joins, packet_sockets
from .traffic import payloads

__all__ = ["lab"]  # The fixture: a network that may be taken apart.
LONG = "x" * 127
RULE = f"{GROUP}%feed0:5001 to {OUT_0}%{LONG}:6001"


def name(lab: Lab, interface: str, *altnames: str, verb: str = "add") -> None:
    """Give an interface of the relay alternative names, or take them away (`del`)."""
    for altname in altnames:
        lab.relay.ip("link", "property", verb, "dev", interface, "altname", altname)


def test_both_ends_by_alternative_names(lab: Lab, ingress: Ingress) -> None:
    """Rules show the written name, counters the own one; the tools accept them too."""
    name(lab, "in0", "feed0")
    name(lab, "out0", LONG)
    sent = payloads(50)
    with (
        lab.receive(OUT_0, 6001) as receiver,
        relaying(lab.relay, RULE, ingress=ingress) as relay,
        lab.sender(GROUP, 5001) as sender,
    ):
        assert relay.stats().rules[0].state == "joined, no frame seen on feed0"
        sender.send(sent)
        receiver.expect(sent)
        stats = settle_sent(relay, len(sent))
        assert [interface.name for interface in stats.interfaces] == ["in0"]
        assert (stats.rules[0].rule, joins(lab.relay) >= {("in0", GROUP)}) == (RULE, True)
        assert not any("no interface" in warning for warning in relay.warnings)
    with lab.relay:
        findings = mcr.diagnose(RULE)
        with mcr.Receiver(f"{GROUP}%feed0:5001") as hearing, lab.sender(GROUP, 5001) as sender:
            sender.send(sent[:3])
            assert hearing.receive(count=3, duration_s=DEADLINE_S).received == 3
        with mcr.Sender(f"{OUT_0}%{LONG}:6001") as sending:
            assert sending.send(count=2).sent == 2
    assert "feed0 is an alternative name of in0" in [finding.text for finding in findings]
    assert not [finding for finding in findings if finding.severity == "problem"]


def test_names_come_go_and_move_to_another_interface(lab: Lab, ingress: Ingress) -> None:
    """Even while the link is down, when the kernel sends no message."""
    with probing(lab, ingress, f"{GROUP}%feed0:5001 to {OUT_0}%out0:6001") as probe:
        probe.awaits("unresolved: there is no interface feed0")
        name(lab, "in0", "feed0")
        probe.resumes(probe.first)
        name(lab, "in0", "feed0", verb="del")
        probe.awaits("unresolved: there is no interface feed0")
        wait_until(lambda: ("in0", GROUP) not in joins(lab.relay))
        with lab.relay.down("in0"):
            name(lab, "in0", "feed0")
            probe.awaits("waiting: feed0 (in0) is down", DEADLINE_S)
        probe.resumes(probe.first)
        name(lab, "in0", "feed0", verb="del")
        name(lab, "bare", "feed0")
        with lab.sender(GROUP, 5001, interface="s2") as probe.sender:
            probe.resumes(probe.first)
        assert {"in0", "bare"} <= {each.name for each in probe.relay.stats().interfaces}


def test_an_interface_that_is_renamed_below_its_alternative_name(
    lab: Lab, ingress: Ingress
) -> None:
    """The rule continues, and counts under the new name."""
    name(lab, "in0", "feed0")
    with probing(lab, ingress, f"{GROUP}%feed0:5001 to {OUT_0}%out0:6001") as probe:
        probe.resumes(probe.first)
        lab.relay.ip("link", "set", "in0", "name", "other0")
        wait_until(lambda: "other0" in {each.name for each in probe.relay.stats().interfaces})
        probe.resumes(probe.first)
        assert ("other0", GROUP) in joins(lab.relay)


@pytest.mark.parametrize("workers", [1, 2])
def test_rules_by_several_names_share_the_interface(
    lab: Lab, ingress: Ingress, workers: int
) -> None:
    """Each datagram reaches each rule once, and removing one rule affects no other."""
    name(lab, "in0", "feed0", "feed1")
    rules = [
        f"{GROUP}%{at}:5001 to 239.2.100.{n}%out0:6001" for n, at in enumerate(["in0", "feed0"], 1)
    ]
    wrong = f"10.1.0.9@{GROUP}%feed1:5001 to 239.2.100.3%out0:6001"
    sent = payloads(40)
    with (
        lab.receive("239.2.100.1", 6001) as first,
        lab.receive("239.2.100.2", 6001) as second,
        relaying(lab.relay, *rules, ingress=ingress, workers=workers) as relay,
        lab.sender(GROUP, 5001) as sender,
    ):
        assert packet_sockets(lab.relay) == (workers if ingress == "packet" else 0)
        sender.send(sent)
        first.expect(sent)
        second.expect(sent)
        settle_sent(relay, len(sent), len(sent))
        with lab.relay:
            relay.replace_rules([rules[1], wrong])
        sender.send(sent)
        second.expect(sent * 2)
        settle_sent(relay, 2 * len(sent), 0)
        with lab.relay:
            relay.replace_rules([wrong])
        sender.send(sent)
        if ingress == "packet":  # a UDP socket never hears of senders that it did not ask for
            wait_until(lambda: "none from 10.1.0.9" in relay.stats().rules[0].state)
        (interface,) = relay.stats().interfaces
        assert interface.name == "in0"


def test_a_daemon_accepts_alternative_names(lab: Lab, ingress: Ingress) -> None:
    """With several workers, and with a character that rule text cannot express."""
    strange = "pci:0@1"
    name(lab, "in0", "feed0", strange)
    sent = payloads(30)
    with (
        serving(lab.relay, "--ingress", ingress, "--workers", "2") as daemon,
        daemon.client() as client,
        client.events(["interface"]) as events,
        lab.receive(OUT_0, 6001) as receiver,
        lab.receive("239.2.100.2", 6001) as second,
        lab.sender(GROUP, 5001) as sender,
    ):
        taken = mcr.Input(GROUP, 5001, interface=strange)
        client.add_rule(mcr.Rule(taken, [mcr.Output("239.2.100.2", 6001, interface="out0")]))
        added = client.add_rule(RULE).added[0]
        assert added.state.endswith(f"output 1 parked: there is no interface {LONG}")
        name(lab, "out0", LONG)
        wait_until(lambda: "parked" not in client.rules().rules[1].state)
        told = iter(lambda: events.read(DEADLINE_S), None)
        assert any(
            (event.event, event.fields["interface"]) == ("altnames", "out0") for event in told
        )
        known = {one.name: one.altnames for one in client.interfaces()}
        assert (known["in0"], known["out0"]) == (("feed0", strange), (LONG,))
        sender.send(sent)
        receiver.expect(sent)
        second.expect(sent)
        assert [each.name for each in client.stats().interfaces] == ["in0"]


def test_a_daemon_answers_whatever_the_number_of_names_and_addresses(
    lab: Lab, tmp_path: Path
) -> None:
    """Messages about them do not exceed a line."""
    batch = tmp_path / "batch"
    lab.relay.ip("link", "add", "spare", "type", "veth", "peer", "spare-peer")
    lab.relay.sysctl("net.ipv6.conf.spare.disable_ipv6", 1)
    lab.relay.ip("link", "set", "spare", "up")
    lines = [f"link property add dev spare altname {n:0>127}" for n in range(100)]
    addresses = [f"2001:db8:1111:2222:3333:4444:5555:{n:x}" for n in range(0x1000, 0x1080)]
    lines += [f"addr add {address}/64 dev in0" for address in addresses]
    batch.write_text("\n".join(lines))
    with serving(lab.relay) as daemon, daemon.client() as client:
        workers = daemon.workers
        with client.events(["interface"]) as events:
            lab.relay.ip("-batch", str(batch))
            missing = {"altnames", "addresses"}
            while missing:
                event = events.read(DEADLINE_S)
                assert event is not None, missing
                missing -= {event.event} if event.text.endswith(" more") else set()
            known = {one.name: one for one in client.interfaces()}
            assert set(addresses) <= {str(each) for each in known["in0"].addresses}
            assert len(known["spare"].altnames) == 100
        assert daemon.workers == workers


def test_a_rule_waits_for_a_missing_name(lab: Lab, ingress: Ingress) -> None:
    """With a warning, as for any missing interface."""
    with (
        lab.receive(OUT_0, 6001) as receiver,
        relaying(lab.relay, RULE, ingress=ingress) as relay,
        lab.sender(GROUP, 5001) as sender,
    ):
        name(lab, "out0", LONG)
        name(lab, "in0", "feed0")
        wait_until(lambda: relay.stats().rules[0].state.startswith("joined, no frame"))
        sender.send([b"one"])
        receiver.expect([b"one"])
        with lab.relay, pytest.raises(mcr.RuleError, match="would arrive twice"):
            relay.add_rule(RULE.replace("feed0", "in0"))


def test_a_rate_follows_an_alternative_name(lab: Lab, ingress: Ingress) -> None:
    """It holds for outputs by any name of the interface, as long as that has the name."""
    name(lab, "out0", "up0")
    rates = [mcr.InterfaceRate("up0", "10pps", 5)]
    rule = f"{GROUP}%in0:5001 to {OUT_0}%out0:6001"
    with (
        relaying(lab.relay, rule, ingress=ingress, interface_rates=rates) as relay,
        lab.sender(GROUP, 5001) as sender,
    ):

        def limited() -> int:
            """How many of 20 datagrams exceed the rate."""
            before = relay.stats().rules[0]
            sender.send(payloads(20))
            wait_until(lambda: relay.stats().rules[0].matched == before.matched + 20)
            wait_until(lambda: relay.stats().rules[0].outputs[0].pending == 0)
            counts = [each.outputs[0].dropped for each in (relay.stats().rules[0], before)]
            now, then = (each.get("class_limited", 0) for each in counts)
            return now - then

        assert limited() >= 10
        assert not [each for each in relay.warnings if "interface, " in each]
        name(lab, "out0", "up0", verb="del")
        wait_until(lambda: limited() == 0)
        name(lab, "out0", "up0")
        wait_until(lambda: limited() >= 10)
        with lab.relay:
            relay.set_interface_rate(mcr.InterfaceRate("out0", "20pps", 5))
        (warning,) = (each for each in relay.warnings if "interface, " in each)
        assert warning.endswith("out0, up0 are one interface; the rate of out0 counts")
