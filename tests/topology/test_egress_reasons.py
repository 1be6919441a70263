"""Outputs that keep their sockets, for the reason shown: nothing is lost, on this host either."""

import contextlib

import pytest

import mcr

from .bursts import BurstSender, mixed_payloads
from .checks import settle
from .daemons import serving
from .egress import (
    OUT_PORT,
    TBF,
    Egress,
    Kind,
    copy_group,
    firewall,
    flow,
    output,
    relayed,
    rule,
    send_in_bursts,
    sent_counts,
    single_frames,
    wait_for_ways,
    ways,
)
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import Receiver, payloads

SENT = mixed_payloads(1024)


@pytest.fixture(autouse=True)
def _single_frames(lab: Lab) -> None:
    single_frames(lab)


def check(
    lab: Lab, kind: Kind, ingress: Ingress, wanted: str, target: str, egress: Egress = "auto"
) -> None:
    """All copies arrive through the socket, for this reason."""
    with (
        lab.receive(copy_group(1), OUT_PORT) as receiver,
        relayed(lab, kind, ingress, rule(1, target), egress=egress) as stats,
        BurstSender(lab.source, "s0") as sender,
    ):
        wait_for_ways(stats, wanted)
        send_in_bursts(sender, [flow(1)], SENT, stats)
        receiver.expect(SENT)
        assert (ways(stats()), sent_counts(stats())) == ([wanted], [len(SENT)])


def test_the_option(lab: Lab, kind: Kind, ingress: Ingress) -> None:
    """`egress=socket` rules AF_XDP out."""
    check(lab, kind, ingress, "chosen", output(1), egress="socket")


def test_a_queueing_discipline(lab: Lab, kind: Kind, ingress: Ingress) -> None:
    """One that limits a rate gets every copy."""
    with lab.relay.shaped("out0", *TBF):
        before = lab.relay.qdisc("out0")["packets"]
        check(lab, kind, ingress, "discipline", output(1))
        assert lab.relay.qdisc("out0")["packets"] - before >= len(SENT)


def test_a_firewall(lab: Lab, kind: Kind, ingress: Ingress) -> None:
    """A chain sees every copy, alone or in a batch."""
    with firewall(lab.relay):
        check(lab, kind, ingress, "firewall", output(1))
        counted = lab.relay.run("nft", "list chain inet looks out").split("packets ")[1]
        assert int(counted.split()[0]) > 0


def test_a_priority(lab: Lab, kind: Kind, ingress: Ingress) -> None:
    """It is for a queueing discipline, now or later."""
    check(lab, kind, ingress, "priority", output(1, options=",priority=3"))


def test_a_member_on_this_host(lab: Lab, kind: Kind, ingress: Ingress) -> None:
    """It gets its copies, as the other host does."""
    with Receiver(lab.relay, "out0", copy_group(1), OUT_PORT) as local:
        check(lab, kind, ingress, "local_member", output(1))
        local.expect(SENT)


def test_datagrams_of_one_size(lab: Lab, kind: Kind, ingress: Ingress) -> None:
    """They form batches, which is faster."""
    sent = payloads(2048, (200,))
    with (
        lab.receive(copy_group(1), OUT_PORT) as receiver,
        relayed(lab, kind, ingress, rule(1, output(1))) as stats,
        BurstSender(lab.source, "s0") as sender,
    ):
        send_in_bursts(sender, [flow(1)], sent, stats)
        receiver.expect(sent)
        assert (ways(stats()), sent_counts(stats())) == (["batches"], [len(sent)])


def test_the_loopback_and_a_broadcast(lab: Lab, kind: Kind, ingress: Ingress) -> None:
    """The one is no Ethernet, the other is for programs on this host too."""
    broadcast = f"10.2.0.255%out0:{OUT_PORT}"
    with (
        Receiver(lab.relay, "lo", copy_group(1), OUT_PORT) as looped,
        lab.receive("10.2.0.255", OUT_PORT) as host,
        relayed(lab, kind, ingress, rule(1, output(1, "lo"), broadcast)) as stats,
        BurstSender(lab.source, "s0") as sender,
    ):
        wait_for_ways(stats, "not_ethernet", "broadcast")
        send_in_bursts(sender, [flow(1)], SENT, stats)
        looped.expect(SENT)
        host.expect(SENT)
        assert sent_counts(stats()) == [len(SENT)] * 2


def test_a_queue_in_use(lab: Lab, ingress: Ingress) -> None:
    """The second relay on an interface sends through sockets until the first has ended."""
    with (
        lab.receive(copy_group(2), OUT_PORT) as receiver,
        BurstSender(lab.source, "s0") as sender,
        contextlib.ExitStack() as stack,
    ):
        first = stack.enter_context(relaying(lab.relay, rule(1, output(1)), ingress=ingress))
        assert ways(first.stats()) == ["batches"]
        with relaying(lab.relay, rule(2, output(2)), ingress=ingress) as second:
            assert ways(second.stats()) == ["queue_in_use"]
            send_in_bursts(sender, [flow(2)], SENT, second.stats)
            receiver.expect(SENT)
            stack.close()
            first.close()
            wait_for_ways(second.stats, "batches")
            settle(second, lambda stats: sent_counts(stats) == [len(SENT)])


def test_what_is_demanded_and_not_possible_is_refused(lab: Lab, ingress: Ingress) -> None:
    """With the output and a remedy; the other rules stay."""
    host = f"10.2.0.1:{OUT_PORT}"
    with (
        relaying(lab.relay, rule(1, output(1)), ingress=ingress, egress="xdp") as relay,
        lab.relay,
    ):
        with pytest.raises(mcr.RuleError, match=f"^{host} cannot be sent through AF_XDP: .*auto"):
            relay.add_rule(rule(2, host))
        with lab.relay.shaped("out1", *TBF), pytest.raises(mcr.RuleError, match=r"out1.* tbf"):
            relay.add_rule(rule(2, output(2, "out1")))
        lab.relay.queue("out1", on=False)
        assert len(relay.rules) == 1
        relay.add_rule(rule(2, output(2, "out1")))
        assert len(relay.rules) == 2


def test_a_daemon_refuses_it_too(lab: Lab) -> None:
    """The error has the kind that it has in the library."""
    with (
        serving(lab.relay, "--egress", "xdp") as daemon,
        daemon.client() as client,
        pytest.raises(mcr.RuleError, match="cannot be sent through AF_XDP"),
    ):
        client.add_rule(rule(1, output(1), f"10.2.0.1:{OUT_PORT}"))
