"""Sequences: what is lost, repeated and late in flows, against the ledger of their generator."""

import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Self

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import settle
from .daemons import serving
from .lab import Lab
from .relays import Ingress, relaying

GROUP = "239.1.47.1"
GROUPS = {4: (GROUP, "239.2.47.1"), 6: ("ff15::47:1", "ff15::47:2")}
COUNT = 600
TO = "to 239.2.47.1%out0:6001"


@dataclass
class Ledger:
    """What the generator did to a stream of numbered datagrams."""

    order: list[int] = field(default_factory=list)
    """The numbers in the order of sending. The first and last are untouched."""
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0

    @classmethod
    def make(cls, *, may_reorder: bool) -> Self:
        """Drop some, alone and in a row, repeat some, and send some later than the next one."""
        ledger = cls()
        late: int | None = None
        for number in range(COUNT):
            if 20 <= number < COUNT - 20 and (number % 31 == 0 or 300 <= number < 306):
                ledger.lost += 1
            elif may_reorder and number % 43 == 20:
                late = number
            else:
                ledger.order.append(number)
                if number % 57 == 50:
                    ledger.duplicated += 1
                    ledger.order.append(number)
                if late is not None:
                    ledger.reordered += 1
                    ledger.order.append(late)
                    late = None
        return ledger

    @property
    def jumps(self) -> list[int]:
        """How many were missing each time that some were."""
        highest = [*accumulate(self.order, max)]
        steps = [after - before - 1 for before, after in pairwise(highest)]
        return [step for step in steps if step > 0]


def rtp(number: int) -> bytes:
    """An RTP packet; its numbers wrap on the way."""
    number += 65_400
    return struct.pack(">BBHII", 0x80, 96, number % 65_536, number * 90, 0x1234) + bytes(40)


def mold(number: int) -> bytes:
    """A packet of MoldUDP64 with three messages."""
    head = b"DAY0000001" + struct.pack(">QH", 1 + number * 3, 3)
    return head + (b"\0\x04abcd" * 3)


def probe(number: int) -> bytes:
    """What ``mcr send`` writes."""
    return b"mcr1" + struct.pack(">IQQ", 77, number, time.time_ns()) + bytes(30)


def ts(number: int) -> bytes:
    """Seven packets of MPEG-TS of one PID."""
    first = number * 7
    return b"".join(
        struct.pack(">BHB", 0x47, 0x100, 0x10 | at % 16) + struct.pack(">Q", at) + bytes(176)
        for at in range(first, first + 7)
    )


def little(number: int) -> bytes:
    """A number of 32 bits, its least significant byte first, behind four other bytes."""
    return struct.pack("<II", 9, number) + bytes(40)


FORMATS: dict[str, tuple[Callable[[int], bytes], str, int]] = {
    "rtp": (rtp, "datagrams", 1),
    "mold": (mold, "messages", 3),
    "mcr": (probe, "datagrams", 1),
    "ts": (ts, "ts_packets", 7),
    "field": (little, "datagrams", 1),
}


def check(sequence: mcr.SequenceStats | None, name: str, ledger: Ledger) -> None:
    """Each figure is what the generator did."""
    _, unit, each = FORMATS[name]
    assert sequence is not None
    assert (sequence.format, sequence.unit, sequence.resets) == (name, unit, 0)
    found = (sequence.lost, sequence.duplicated, sequence.reordered, sequence.gaps)
    gaps = [jump * each % (16 if name == "ts" else COUNT * each) for jump in ledger.jumps]
    lost = sum(gaps) if name == "ts" else ledger.lost * each
    assert found == (lost, ledger.duplicated * each, ledger.reordered * each, len(gaps))
    assert sequence.largest_gap == max(gaps)
    assert (sequence.numbered, sequence.unfit) == (len(ledger.order), 0)
    assert sequence.confidence == 1.0


@contextmanager
def receiving(
    lab: Lab, endpoint: str, seq: str, count: int
) -> Iterator[Callable[[], mcr.ReceiveReport]]:
    """Receive behind the relay; the value waits for so many datagrams and returns the report."""
    with lab.receiver:
        receiver = mcr.Receiver(endpoint, seq=seq)
    with receiver, ThreadPoolExecutor(1) as pool:
        report = pool.submit(receiver.receive, count, 30)
        try:
            yield report.result
        finally:
            receiver.stop()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("name", "told"),
    [*((name, True) for name in FORMATS), *((name, False) for name in FORMATS if name != "field")],
)
def test_each_format_agrees_with_its_ledger(
    lab: Lab, ingress: Ingress, gro: bool, name: str, told: bool, version: int
) -> None:
    """Recognised or told, before and behind the relay, single datagrams and super-frames."""
    make = FORMATS[name][0]
    group, behind = GROUPS[version]
    seq = "4:32le" if name == "field" else name
    rule = f"{group}%in0:5001{f',seq={seq}' if told else ''} to {behind}%out0:6001"
    ledger = Ledger.make(may_reorder=name != "ts")
    with (
        relaying(lab.relay, rule, ingress=ingress, flows=True) as relay,
        receiving(lab, f"{behind}%d0:6001", seq if told else "auto", len(ledger.order)) as received,
        lab.sender(group, 5001) as sender,
    ):
        sender.send([make(number) for number in ledger.order])
        settle(relay, lambda stats: stats.rules[0].matched == len(ledger.order))
        (output,) = received().sequences or ()
        check(output.sequence, name, ledger)
        assert output.datagrams == len(ledger.order)
        assert output.source == "10.2.0.1" or version == 6
        (flow,) = relay.flows()
        check(flow.sequence, name, ledger)
        assert flow.sequence is not None
        assert flow.sequence.basis == ("told" if told else "recognised")
        assert 0 < sum(count for _, count in flow.sequence.arrivals) < len(ledger.order)


def test_a_loss_behind_the_relay_shows_there_only(lab: Lab, ingress: Ingress) -> None:
    """The same reading on both sides tells on which of them datagrams were lost."""
    group, behind = GROUPS[4]
    count = 64
    rules = "add table ip cut; add chain ip cut in { type filter hook prerouting priority 0 ; }; "
    rules += "add rule ip cut in udp dport 6001 numgen inc mod 8 7 drop"
    with (
        relaying(
            lab.relay, f"{group}%in0:5001 to {behind}%out0:6001", ingress=ingress, flows=True
        ) as relay,
        receiving(lab, f"{behind}%d0:6001", "auto", count * 7 // 8) as received,
        lab.sender(group, 5001) as sender,
    ):
        lab.set_offload(on=False)
        lab.receiver.run("nft", rules)
        try:
            for number in range(count):
                sender.send([rtp(number)])
                # So each copy is a frame of its own.
                wait_until(lambda: relay.stats().rules[0].matched > number)  # noqa: B023 -- at once
            (output,), (flow,) = received().sequences or (), relay.flows()
        finally:
            lab.receiver.run("nft", "delete table ip cut")
        assert output.sequence is not None
        assert flow.sequence is not None
        assert (flow.sequence.lost, flow.sequence.gaps) == (0, 0)
        # The last of them is lost too, but no later number shows it.
        assert (output.sequence.lost, output.sequence.gaps) == (count // 8 - 1, count // 8 - 1)


def test_nothing_is_read_where_the_rule_says_so(lab: Lab) -> None:
    """The flow is counted all the same."""
    rule = f"{GROUP}%in0:5001,seq=none {TO}"
    with (
        relaying(lab.relay, rule, ingress="packet", flows=True) as relay,
        lab.sender(GROUP, 5001) as sender,
    ):
        sender.send([rtp(number) for number in range(20)])
        settle(relay, lambda stats: stats.rules[0].matched == 20)
        assert [(flow.datagrams, flow.sequence) for flow in relay.flows()] == [(20, None)]


def test_hostile_bytes_have_no_sequence(lab: Lab, ingress: Ingress) -> None:
    """What looks like a format and is none stays undecided."""
    with (
        relaying(lab.relay, f"{GROUP}%in0:5001 {TO}", ingress=ingress, flows=True) as relay,
        lab.sender(GROUP, 5001) as sender,
    ):
        odd = [b"", b"\x80", b"mcr1", b"\x47" * 188, b"\xbf" * 12, b"A" * 20, rtp(1), rtp(40_000)]
        sender.send(odd * 20)
        settle(relay, lambda stats: stats.rules[0].matched == len(odd) * 20)
        (flow,) = relay.flows()
        assert flow.sequence is not None
        assert (flow.sequence.format, flow.sequence.basis) == (None, "undecided")
        assert (flow.sequence.lost, flow.sequence.numbered) == (0, 0)


def test_the_numbers_of_a_daemon_continue_after_a_death(lab: Lab) -> None:
    """The rule's word reaches the workers, and a successor knows what comes next."""
    rule = f"{GROUP}%in0:5001,name=feed,seq=rtp/90000 {TO}"
    with (
        serving(lab.relay, "--ingress", "packet", "--flows") as daemon,
        daemon.client() as client,
        lab.sender(GROUP, 5001) as sender,
    ):
        client.add_rules([rule])
        sender.send([rtp(number) for number in (0, 1, 2, 5, 6)])
        wait_until(lambda: client.stats(["feed"]).rules[0].matched == 5)
        (worker,) = daemon.workers
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: [(w.deaths, w.state) for w in client.workers()] == [(1, "running")])
        sender.send([rtp(number) for number in (9, 10)])
        wait_until(lambda: client.stats(["feed"]).rules[0].matched == 7)
        (flow,) = client.flows().flows
        assert flow.sequence is not None
        assert (flow.sequence.lost, flow.sequence.gaps, flow.sequence.numbered) == (4, 2, 7)
        assert (flow.sequence.basis, flow.sequence.payload_type) == ("told", 96)
        assert flow.sequence.jitter_of == "timestamps"


def test_gaps_are_a_loss_of_their_flow(lab: Lab, ingress: Ingress) -> None:
    """The counts of its events are the numbers that never came; late ones are no loss."""
    with (
        relaying(
            lab.relay, f"{GROUP}%in0:5001,name=feed {TO}", ingress=ingress, flows=True
        ) as relay,
        relay.events(["loss"]) as events,
        lab.sender(GROUP, 5001) as sender,
    ):
        numbers = [*range(20), 21, 20]
        sender.send([rtp(number) for number in numbers])
        settle(relay, lambda stats: stats.rules[0].matched == len(numbers))
        first, event = 22, None
        while event is None:  # the first sample is only compared with
            sender.send([rtp(number) for number in range(first, first + 4)])
            first, event = first + 5, events.read(0.3)
        loss, (flow,) = event.loss, relay.flows()
        assert (event.event, loss is None, flow.sequence is None) == ("began", False, False)
        assert loss is not None
        assert flow.sequence is not None
        counted = loss.counts["sequence_gap"]
        assert 1 <= counted <= flow.sequence.lost
        assert (loss.source, loss.source_port) == (flow.source, flow.source_port)
        assert (loss.group, loss.port) == (GROUP, 5001)
        assert f"of rule feed loses {counted} sequence_gap" in event.text
