"""An output in trouble: it alone loses, never reorders, and its numbers say what was lost."""

import contextlib
from collections.abc import Iterator

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import sent_counts, settle, settle_sent
from .lab import Lab
from .namespaces import Namespace
from .relays import Ingress, relaying
from .traffic import PacedFlow, Sender, payloads

QUEUE_BYTES = 20_000
ENDLESS_BYTES = 100_000_000


def tbf(rate: str, queue_bytes: int) -> tuple[str, ...]:
    """A token bucket filter with a queue of this size."""
    return ("tbf", "rate", rate, "burst", "20000", "limit", str(queue_bytes))


def settle_sent_by(relay: mcr.Relay, output: int, count: int) -> None:
    """Wait until one output of the first rule has sent this many."""
    settle(relay, lambda stats: sent_counts(stats)[output] == count)


@pytest.mark.parametrize(
    ("queue_bytes", "count"),
    [(QUEUE_BYTES, 1000), (ENDLESS_BYTES, 8000)],
    ids=["qdisc", "send-buffer"],
)
def test_slow_output_beside_a_fast_one(
    lab: Lab, ingress: Ingress, gro: bool, queue_bytes: int, count: int
) -> None:
    """The fast output loses and reorders nothing; the slow one loses, in order, and says so."""
    sent = payloads(count)
    with (
        lab.relay.shaped("out1", *tbf("1mbit", queue_bytes)),
        lab.receive("239.2.30.1", 6001) as fast,
        lab.receive("239.2.30.2", 6001, "d1") as slow,
        relaying(
            lab.relay,
            "239.1.30.1%in0:5001 to 239.2.30.2%out1:6001 239.2.30.1%out0:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.30.1", 5001) as sender,
    ):
        (sender.send_super if gro else sender.send)(sent)
        fast.expect(sent)
        stats = settle(relay, lambda stats: stats.rules[0].outputs[0].wanted == count)
        slow_output, fast_output = stats.rules[0].outputs
        assert fast_output.sent == count
        lab.relay.reshape("out1", *tbf("10gbit", queue_bytes))
        wait_until(lambda: lab.relay.qdisc("out1")["backlog"] == 0)
        slow.drain()
        positions = [sent.index(datagram) for datagram in slow.collected]
        assert positions == sorted(set(positions)), "the slow output reordered or repeated"
        lost = count - len(slow.collected)
        assert lost > 0
        assert slow_output.dropped["output_full"] == lost


@pytest.mark.parametrize(
    ("output", "receives"),
    [
        ("239.2.33.2%out1:6001", "239.2.33.2"),
        ("[fd03::2]:6001", "fd03::2"),
        ("239.2.33.3%above:6001", "239.2.33.3"),
    ],
    ids=["group", "host-by-routing", "macvlan"],
)
def test_a_burst_smaller_than_a_batch(
    lab: Lab, ingress: Ingress, output: str, receives: str
) -> None:
    """A token bucket filter that is put in place while traffic flows loses nothing uncounted."""
    lab.set_offload(on=True)
    sent = payloads(2000, (1000,))
    with (
        standing_on(lab.relay, "above", "out1", "10.9.33.1/24"),
        lab.receive(receives, 6001, "d1") as receiver,
        relaying(lab.relay, f"239.1.33.1%in0:5001 to {output}", ingress=ingress) as relay,
        lab.sender("239.1.33.1", 5001) as sender,
    ):
        sender.send_super(sent[:200])
        receiver.expect(sent[:200])
        with lab.relay.shaped("out1", *tbf("20mbit", 60_000)):
            # Batches that happen to be small pass whole at any time.
            wait_until(lambda: all(counts_all(lab, relay, sender, sent[:200]) for _ in range(3)))
            before = output_of(relay)
            receiver.forget()
            sender.send_super(sent)
            stats = settle(
                relay, lambda now: now.rules[0].outputs[0].wanted == before.wanted + len(sent)
            )
            lab.relay.reshape("out1", *tbf("10gbit", 60_000))
            wait_until(lambda: lab.relay.qdisc("out1")["backlog"] == 0)
            lost = stats.rules[0].outputs[0].dropped["output_full"] - before.dropped["output_full"]
            assert lost > 0
            receiver.wait_for(len(sent) - lost)
            assert len(receiver.drain()) == len(sent) - lost


def counts_all(lab: Lab, relay: mcr.Relay, sender: Sender, burst: list[bytes]) -> bool:
    """Whether a burst lost nothing uncounted: the filter cuts what it cannot pass."""
    before, through = output_of(relay), lab.relay.qdisc("out1")["packets"]
    sender.send_super(burst)
    wait_until(lambda: output_of(relay).wanted == before.wanted + len(burst))
    wait_until(lambda: lab.relay.qdisc("out1")["backlog"] == 0)
    now, passed = output_of(relay), lab.relay.qdisc("out1")["packets"] - through
    is_lossy = now.dropped["output_full"] > before.dropped["output_full"]
    return is_lossy and now.sent - before.sent == passed


@contextlib.contextmanager
def standing_on(namespace: Namespace, name: str, below: str, address: str) -> Iterator[None]:
    """A macvlan on an interface."""
    namespace.ip("link", "add", "link", below, "name", name, "type", "macvlan")
    try:
        namespace.ip("link", "set", name, "up")
        namespace.address(name, address)
        yield
    finally:
        namespace.ip("link", "del", name)


def output_of(relay: mcr.Relay) -> mcr.OutputStats:
    """The counters of the first rule's first output."""
    return relay.stats().rules[0].outputs[0]


def test_unicast_receiver_comes_late_and_again(lab: Lab, ingress: Ingress) -> None:
    """A closed port costs the other outputs nothing, and a host gets all from its start on."""
    parts = [payloads(100, seed=seed) for seed in range(4)]
    with (
        lab.receive("239.2.31.1", 6001) as group,
        relaying(
            lab.relay,
            "239.1.31.1%in0:5001 to 10.2.0.2:7000 239.2.31.1%out0:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.31.1", 5001) as sender,
    ):
        expected: list[bytes] = []
        for number, part in enumerate(parts):
            expected += part
            if number % 2 == 0:
                sender.send(part)
                group.expect(expected)
                settle_sent_by(relay, 1, len(expected))
                continue
            with lab.receive("10.2.0.2", 7000) as host:
                sender.send(part)
                host.expect(part)
                group.expect(expected)
        stats = settle_sent(relay, len(expected), len(expected))
        assert stats.rules[0].outputs[0].refused > 0
        assert stats.rules[0].outputs[1].refused == 0


def test_link_without_carrier(lab: Lab, ingress: Ingress) -> None:
    """While the far end is down copies are counted as `no_carrier`; afterwards they flow again."""
    before, during, after = (payloads(50, seed=seed) for seed in range(3))
    with (
        lab.receive("239.2.32.1", 6001) as healthy,
        lab.receive("239.2.32.2", 6001, "d1") as unplugged,
        relaying(
            lab.relay,
            "239.1.32.1%in0:5001 to 239.2.32.2%out1:6001 239.2.32.1%out0:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.32.1", 5001) as sender,
    ):

        def probe() -> None:
            sender.send([b"probe"])
            healthy.wait_for(len(healthy.collected) + 1)

        def parked() -> int:
            probe()
            return without_carrier(relay)

        def flows() -> bool:
            probe()
            return b"probe" in unplugged.drain()

        sender.send(before)
        healthy.expect(before)
        unplugged.expect(before)
        with lab.receiver.down("d1"):
            wait_until(parked, what="copies counted as no_carrier")
            settle(relay, lambda stats: stats.rules[0].matched == len(healthy.collected))
            known = without_carrier(relay)
            sender.send(during)
            healthy.wait_for_payload(during[-1])
            settle(relay, lambda _: without_carrier(relay) == known + len(during))
        unplugged.forget()
        wait_until(flows)
        sender.send(after)
        unplugged.wait_for_payload(after[-1])
        assert [one for one in unplugged.collected if one != b"probe"] == after
        stats = settle(relay, lambda stats: stats.rules[0].matched == len(healthy.drain()))
        assert stats.rules[0].outputs[1].sent == stats.rules[0].matched


def without_carrier(relay: mcr.Relay) -> int:
    """What the first output dropped for want of a carrier."""
    return int(relay.stats().rules[0].outputs[0].dropped["no_carrier"])


def settle_no_carrier(relay: mcr.Relay, least: int) -> None:
    """Wait until at least this many copies are counted."""
    wait_until(lambda: without_carrier(relay) >= least)


def test_cable_pulled_while_traffic_flows(lab: Lab, ingress: Ingress) -> None:
    """Twice unplugged and plugged in under load: every copy is counted, the neighbour has all."""
    with (
        lab.receive("239.2.33.1", 6001) as healthy,
        lab.receive("239.2.33.2", 6001, "d1") as unplugged,
        relaying(
            lab.relay,
            "239.1.33.1%in0:5001 to 239.2.33.2%out1:6001 239.2.33.1%out0:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.33.1", 5001) as sender,
    ):
        with PacedFlow(sender, 5000) as flow:
            for _ in range(2):
                unplugged.wait_for(len(unplugged.drain()) + 500)
                with lab.receiver.down("d1"):
                    settle_no_carrier(relay, least=without_carrier(relay) + 500)
            unplugged.wait_for(len(unplugged.drain()) + 500)
        healthy.expect(flow.sent)
        stats = settle(relay, lambda stats: sent_counts(stats)[1] == len(flow.sent))
        output, neighbour = stats.rules[0].outputs
        assert output.wanted == neighbour.wanted == len(flow.sent)
        assert output.dropped["no_carrier"] >= 1000
        assert output.sent == output.wanted - output.dropped["no_carrier"]
        assert not any(neighbour.dropped.values())
        unplugged.wait_for_payload(flow.sent[-1])
        assert unplugged.collected == sorted(set(unplugged.collected), key=number_of)
        # What was on its way when the cable was pulled is lost, and only that.
        assert output.sent - len(unplugged.collected) < 500


def number_of(datagram: bytes) -> int:
    """The number that a paced flow puts first."""
    return int.from_bytes(datagram[:8], "little")


def test_output_without_carrier_from_the_start(lab: Lab, ingress: Ingress) -> None:
    """A rule on an unplugged interface is taken, with a warning, and works once plugged in.

    An output by routing that leads to the same place is not watched.
    """
    with (
        lab.receive("239.2.34.1", 6001, "d1") as unplugged,
        contextlib.ExitStack() as relay_side,
        lab.sender("239.1.34.1", 5001) as sender,
    ):
        with lab.receiver.down("d1"):
            relay = relay_side.enter_context(
                relaying(
                    lab.relay,
                    "239.1.34.1%in0:5001 to 239.2.34.1%out1:6001 10.3.0.2:6001",
                    ingress=ingress,
                )
            )
            assert any(text.startswith("out1 has no carrier") for text in relay.warnings)
            sender.send(payloads(50))
            stats = settle(relay, lambda stats: stats.rules[0].outputs[0].wanted == 50)
            parked, routed = stats.rules[0].outputs
            assert (parked.sent, parked.dropped["no_carrier"]) == (0, 50)
            assert routed.dropped["no_carrier"] == 0

        def flows() -> bool:
            sender.send([b"probe"])
            return b"probe" in unplugged.drain()

        wait_until(flows)
