"""Outputs with a rate and a queue: what exceeds the rate arrives later, or has a reason."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import HasDict, assert_balanced
from .daemons import serving
from .deaths import kill
from .egress import OUT_PORT, Egress, Kind, ReadStats, flow, output, relayed, rule, single_frames
from .lab import Lab
from .relays import Ingress, relaying
from .timing import TimedReceiver, most_within
from .traffic import PacedFlow, payloads

RATE = 2000
BURST = 20
QUEUE_S = 0.05
OPTIONS = f",rate={RATE // 1000}kpps,burst={BURST},queue=50ms"
LONG_S = 0.2
LONG = OPTIONS.replace("50ms", "200ms")
"""For tests of the rate: no sender or reader on a busy machine pauses for longer."""
SIZES = (1400, 60, 700, 700, 0, 1400)


def first(stats: HasDict) -> dict[str, Any]:
    """The counters of the first output."""
    counters: dict[str, Any] = stats.as_dict()["rules"][0]["outputs"][0]
    return counters


def group_of(text: str, number: int = 0) -> str:
    """The group of an output of a rule."""
    return text.split(" to ")[1].split()[number].partition("%")[0]


WAYS = [
    ("library", "packet", 4, "socket", False),
    ("library", "packet", 6, "auto", True),
    ("daemon", "udp", 6, "auto", False),
    ("daemon", "packet", 4, "auto", True),
    ("library", "udp", 4, "socket", True),
]


@pytest.mark.parametrize(("kind", "ingress", "version", "egress", "gro"), WAYS)
def test_a_burst_waits_and_leaves_at_the_rate(
    lab: Lab, kind: Kind, ingress: Ingress, version: int, egress: Egress, gro: bool
) -> None:
    """All of it arrives, in order, at the rate; meanwhile what waits is pending."""
    lab.set_offload(on=gro)
    text = rule(1, output(1, version=version, options=LONG), version=version)
    count = BURST + int(0.8 * RATE * LONG_S)
    sent = payloads(count, (1000,) if gro else SIZES)
    with (
        TimedReceiver(lab, group_of(text), OUT_PORT) as receiver,
        relayed(lab, kind, ingress, text, egress=egress) as stats,
        lab.sender(flow(1, version).group, flow(1, version).port) as sender,
    ):
        if gro:
            sender.send_super(sent)
        else:
            sender.send(sent)
        waiting = [each["pending"] for each in readings(stats, count)]
        receiver.expect(sent)
        assert first(stats())["sent"] == count
    assert max(waiting) > 0, "nothing was seen waiting"
    assert most_within(receiver.times_s, 0.01) <= RATE * 0.01 + BURST + 4
    assert receiver.times_s[-1] - receiver.times_s[0] >= 0.9 * (count - BURST) / RATE


def readings(stats: ReadStats, count: int) -> Iterator[dict[str, Any]]:
    """The counters of the first output until all copies are accounted for; each balances."""
    while True:
        reading = stats()
        assert_balanced(reading)
        counters = first(reading)
        yield counters
        if counters["wanted"] == count and counters["pending"] == 0:
            return
        time.sleep(0.001)


@pytest.mark.parametrize(
    ("kind", "ingress", "version", "rate", "options"),
    [
        ("library", "packet", 4, RATE, LONG),
        ("daemon", "udp", 6, RATE, f"{LONG},ttl=keep"),
        ("library", "packet", 4, RATE, f"{LONG},sport=keep"),
        ("library", "packet", 6, RATE, ",rate=16mbit,burst=20000,queue=200ms"),
    ],
)
def test_overload_fills_the_queue_and_no_more(
    lab: Lab, kind: Kind, ingress: Ingress, version: int, rate: int, options: str
) -> None:
    """Of three times the rate the rate arrives, and a neighbour gets all; the rest has a reason."""
    limited = output(1, version=version, options=options)
    text = rule(1, limited, output(2, version=version), version=version)
    most = 0
    with (
        TimedReceiver(lab, group_of(text), OUT_PORT) as slow,
        lab.receive(group_of(text, 1), OUT_PORT) as fast,
        relayed(lab, kind, ingress, text) as stats,
        lab.sender(flow(1, version).group, flow(1, version).port) as sender,
    ):
        with PacedFlow(sender, 3 * rate, 1000) as flowing:
            ends = time.monotonic() + 2
            while time.monotonic() < ends:
                reading = stats()
                assert_balanced(reading)
                most = max(most, first(reading)["pending"])
                time.sleep(0.01)
        count = len(flowing.sent)
        fast.expect(flowing.sent)
        counters = list(readings(stats, count))[-1]
        slow.wait_for(counters["sent"])
    assert count == counters["sent"] + counters["dropped"]["queue_full"]
    assert 0.5 * RATE * LONG_S < most <= RATE * LONG_S + 64, "a turn's worth may be on its way"
    arrived = [int.from_bytes(each[:8], "little") for each in slow.collected]
    assert arrived == sorted(set(arrived)), "reordered or repeated"
    assert slow.collected == [flowing.sent[number] for number in arrived]
    elapsed_s = slow.times_s[-1] - slow.times_s[0]
    assert 0.98 * RATE * elapsed_s < len(arrived) < 1.02 * (RATE * elapsed_s + BURST)
    assert most_within(slow.times_s, 0.1) <= RATE * 0.1 + BURST + 64


def test_flows_that_wait_keep_their_fields(lab: Lab) -> None:
    """Copies of a block with the sender's TTL, each to its own group."""
    text = f"239.1.90.0/30%in0:5001 to 239.2.90.0/30%out0:{OUT_PORT},ttl=keep{OPTIONS}"
    sent = payloads(BURST + 60, (300, 300, 1200))
    with (
        lab.receive("239.2.90.1", OUT_PORT) as one,
        lab.receive("239.2.90.2", OUT_PORT) as other,
        relaying(lab.relay, text) as relay,
        lab.sender("239.1.90.1", 5001) as to_one,
        lab.sender("239.1.90.2", 5001) as to_other,
    ):
        for start in range(0, len(sent), 20):
            to_one.send(sent[start : start + 10])
            to_other.send(sent[start + 10 : start + 20])
        halves = [
            [each for at, each in enumerate(sent) if at % 20 // 10 == half] for half in (0, 1)
        ]
        one.expect(halves[0])
        other.expect(halves[1])
        assert max(each["sent"] for each in readings(relay.stats, len(sent))) == len(sent)


@pytest.mark.parametrize("change", ["remove", "edit", "stop", "park"])
def test_what_waits_at_a_change_is_accounted_for(lab: Lab, change: str) -> None:
    """It leaves at once where its output ends or changes, and is dropped without a carrier."""
    text = rule(1, output(1, options=",rate=100pps,burst=10,queue=1s"), output(2))
    sent = payloads(80)
    with (
        lab.receive(group_of(text), OUT_PORT) as receiver,
        lab.receive(group_of(text, 1), OUT_PORT) as neighbour,
        relaying(lab.relay, text) as relay,
        lab.sender(flow(1).group, flow(1).port) as sender,
    ):
        sender.send(sent)
        neighbour.expect(sent)
        assert 0 < len(receiver.drain()) < 40
        if change == "remove":
            relay.remove_rule(relay.rules[0].id)
        elif change == "edit":
            relay.edit_rule(relay.rules[0].id, set_outputs={1: "queue=default"})
            counters = first(relay.stats())
            assert (counters["wanted"], counters["sent"]) == (80, 80)
        elif change == "stop":
            relay.stop()
            assert first(relay.stats())["sent"] == 80
        else:
            with lab.relay.down("out0"):
                wait_until(lambda: first(relay.stats())["pending"] == 0)
            counters = first(relay.stats())
            assert counters["dropped"]["no_carrier"] > 0
            return
        receiver.expect(sent)


def test_another_rule_leaves_a_queue_alone(lab: Lab) -> None:
    """A change of other rules neither loses nor hastens what waits."""
    text = rule(1, output(1, options=OPTIONS))
    sent = payloads(BURST + 70)
    with (
        TimedReceiver(lab, group_of(text), OUT_PORT) as receiver,
        relaying(lab.relay, text) as relay,
        lab.sender(flow(1).group, flow(1).port) as sender,
    ):
        sender.send(sent)
        for number in (2, 3, 4):
            relay.add_rule(rule(number, output(number)))
        receiver.expect(sent)
    assert receiver.times_s[-1] - receiver.times_s[0] >= 0.9 * 70 / RATE


def test_a_worker_dies_with_copies_that_wait(lab: Lab) -> None:
    """They are counted as abandoned, and the balance holds."""
    text = rule(1, output(1, options=",rate=10pps,burst=10,queue=1s"))
    with serving(lab.relay) as daemon, daemon.client() as client:
        client.add_rule(text)
        with lab.sender(flow(1).group, flow(1).port) as sender:
            sender.send(payloads(20))
        wait_until(lambda: first(client.stats())["wanted"] == 20)
        before = first(client.stats())
        kill(*daemon.workers)
        wait_until(lambda: first(client.stats())["pending"] == 0)
        wait_until(lambda: first(client.stats())["dropped"]["abandoned"] > 0)
        after = client.stats()
    assert_balanced(after)
    counters = first(after)
    assert counters["wanted"] == 20
    assert 0 < counters["dropped"]["abandoned"] <= before["pending"]


def test_frames_give_way_to_a_queue(lab: Lab) -> None:
    """An output with a queue leaves through its socket, and says why."""
    single_frames(lab)
    text = rule(1, output(1, options=OPTIONS))
    with relaying(lab.relay, text, egress="auto") as relay:
        assert first(relay.stats())["way_reason"] == "queue"
    refusal = pytest.raises(mcr.RuleError, match=r"what exceeds its rate may wait.*auto")
    with refusal, relaying(lab.relay, text, egress="xdp"):
        pass


def test_a_large_overload_takes_bounded_memory(lab: Lab) -> None:
    """The memory of a queue goes round many times, and mixes no datagrams."""
    text = rule(1, output(1, options=",rate=40mbit,burst=5000,queue=10ms"))
    sent: Sequence[bytes] = payloads(30_000, (1400, 100, 3000, 1, 800))
    with (
        lab.receive(group_of(text), OUT_PORT) as receiver,
        relaying(lab.relay, text) as relay,
        lab.sender(flow(1).group, flow(1).port) as sender,
    ):
        sender.send(sent)
        counters = list(readings(relay.stats, len(sent)))[-1]
        receiver.wait_for(counters["sent"])
    assert counters["dropped"]["queue_full"] > 0
    whole = {each[:8]: each for each in sent if len(each) > 8}
    known = [each for each in receiver.collected if len(each) > 8]
    assert all(whole[each[:8]] == each for each in known)
    numbers = [int.from_bytes(each[:8], "little") for each in known]
    assert numbers == sorted(set(numbers))
