"""Captures and traces: what they show, against what was sent, received and counted."""

import contextlib
import io
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapNgReader
from tests.support.deadline import wait_until

import mcr
from mcr.explain.captures import read_capture
from mcr.taps.pcapng import PcapngWriter

from .checks import assert_balanced
from .daemons import MCR, Daemon, serving
from .egress import Kind
from .frames import Flow, Injector, udp_frame
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import payloads

V4 = "10.1.0.2@239.1.47.1%in0:5001,name=feed to 239.2.47.1%out0:6001 239.2.47.2%out1:6002,ttl=9"
V6 = "[ff15::47%in0]:5002,name=six to [ff15::48%out0]:6003"
FIRST, SECOND, OTHER = ("10.1.0.2", 4001), ("10.1.0.3", 4002), ("10.1.0.2", 4004)
SIX = ("fd01::2", 4003)


@contextlib.contextmanager
def watched(kind: Kind, lab: Lab, ingress: Ingress) -> Iterator[mcr.Relay | mcr.Client]:
    """A relay of this process, or a client of a daemon with two workers."""
    if kind == "library":
        with relaying(lab.relay, V4, V6, ingress=ingress) as relay:
            yield relay
        return
    with (
        serving(lab.relay, "--ingress", ingress, "--workers", "2") as daemon,
        daemon.client() as client,
    ):
        client.add_rules([V4, V6])
        yield client


def capturing(
    lab: Lab,
    relay: mcr.Relay | mcr.Client,
    rule: str | None = None,
    **options: Any,  # noqa: ANN401 -- of two methods
) -> mcr.TapStream:
    """A capture, in which a relay of this process names the interfaces of its own namespace."""
    with lab.relay:
        return relay.capture(rule, **options)


def read_all(stream: mcr.TapStream, count: int) -> list[mcr.DatagramRecord]:
    """As many records, and no more of the same."""
    records: list[mcr.DatagramRecord] = []

    def are_there() -> bool:
        while (record := stream.read(0.05)) is not None:
            records.append(record)
        return len(records) >= count

    wait_until(are_there)
    assert (len(records), stream.lost) == (count, 0), [record.text for record in records]
    return records


def packet(record: mcr.DatagramRecord) -> Ether:
    """The frame, as scapy reads it, which must have the checksums that it computes."""
    read = Ether(record.frame)
    assert len(record.frame) == record.frame_bytes
    return read


def checksums(frame: Ether) -> tuple[int | None, int]:
    """The checksums of IPv4, if there is one, and UDP."""
    return (frame[IP].chksum if IP in frame else None, frame[UDP].chksum)


def recomputed(frame: Ether) -> tuple[int | None, int]:
    """The same, computed by scapy."""
    again = frame.copy()
    if IP in again:
        del again[IP].chksum
    del again[UDP].chksum
    return checksums(Ether(bytes(again)))


def test_a_capture_shows_what_arrives_and_leaves(
    lab: Lab, ingress: Ingress, gro: bool, kind: Kind
) -> None:
    """Each datagram of a super-frame alone, and each copy with what its receiver got."""
    sent = payloads(40, (600,))
    with (
        watched(kind, lab, ingress) as relay,
        lab.receive("239.2.47.1", 6001) as first,
        lab.receive("239.2.47.2", 6002, "d1") as second,
        lab.receive("ff15::48", 6003) as third,
        lab.sender("239.1.47.1", 5001, source=FIRST) as sender,
        lab.sender("ff15::47", 5002, source=SIX) as six,
        capturing(lab, relay) as stream,
    ):
        sender.send_super(sent) if gro else sender.send(sent)
        six.send([b"six"])
        first.expect(sent)
        second.expect(sent)
        third.expect([b"six"])
        records = read_all(stream, 3 * 40 + 2)
        assert_balanced(relay.stats())
    for *wanted, expected in (
        ("matched", "feed", None, sent),
        ("sent", "feed", 1, sent),
        ("sent", "feed", 2, sent),
        ("matched", "six", None, [b"six"]),
        ("sent", "six", 1, [b"six"]),
    ):
        shown = [packet(r) for r in records if [r.step, r.rule_name, r.output] == wanted]
        assert [bytes(frame[UDP].payload) for frame in shown] == expected
    copies = {record.output: packet(record) for record in records if record.step == "sent"}
    four = copies[2]
    assert (four.dst, four[IP].dst, four[IP].ttl) == ("01:00:5e:02:2f:02", "239.2.47.2", 9)
    assert four[UDP].dport == 6002
    assert (four[IP].src, four[UDP].sport) == second.sources[-1]
    for record in records:
        if record.step == "sent":
            assert checksums(packet(record)) == recomputed(packet(record))
    one = next(
        record for record in records if (record.step, record.rule_name) == ("matched", "feed")
    )
    frame = packet(one)
    assert (frame[IP].src, frame[UDP].sport, frame[IP].ttl) == (*FIRST, 8)
    assert one.interface == "in0"
    assert {record.interface for record in records if record.output == 2} == {"out1"}
    # Copies have the number of the datagram that they come from.
    numbers = {
        bytes(packet(r)[UDP].payload): (r.worker, r.datagram) for r in records if r.is_inbound
    }
    for record in records:
        payload = bytes(packet(record)[UDP].payload)
        assert numbers[payload] == (record.worker, record.datagram)
    last = packet(next(record for record in reversed(records) if record.rule_name == "six"))
    assert (last[IPv6].dst, last[UDP].dport) in {("ff15::48", 6003), ("ff15::47", 5002)}


def test_drops_are_captured_with_their_reason(lab: Lab, kind: Kind) -> None:
    """As many as the counters have, by reason, of datagrams and of copies."""
    with (
        watched(kind, lab, "packet") as relay,
        lab.sender("239.1.47.1", 5001, source=FIRST) as sender,
        lab.sender("239.1.47.1", 5001, source=SECOND) as stranger,
        lab.sender("239.1.47.1", 5999, source=OTHER) as other,
        Injector(lab.source, "s0") as frames,
        capturing(lab, relay, "feed", take=["dropped"]) as drops,
        capturing(lab, relay, reason="no_rule") as unmatched,
    ):
        sender.send([b"relayed"])
        stranger.send([b"stranger"] * 3)
        other.send([b"other"] * 2)
        good = udp_frame(Flow("10.1.0.2", "239.1.47.1", 5001), b"damaged")
        frames.send(good[:-1] + b"X", good[:-3])
        records = read_all(drops, 7)
        only = read_all(unmatched, 2)
        stats = relay.stats()
        (counted,) = (each.dropped for each in stats.interfaces if each.name == "in0")
        assert_balanced(stats)
    reasons = [record.reason for record in records]
    assert {reason: reasons.count(reason) for reason in set(reasons)} == {
        reason: count for reason, count in counted.items() if count
    }
    assert counted["source"] == 3
    assert counted["no_rule"] == 2
    assert counted["bad_checksum"] == 1
    assert {record.reason for record in only} == {"no_rule"}
    assert all(record.headers is None for record in records if record.reason == "truncated")


def written(records: list[mcr.DatagramRecord]) -> bytes:
    """The records as a capture file."""
    file = io.BytesIO()
    writer = PcapngWriter(file)
    for number, record in enumerate(records):
        writer.write(record, 5 if number else 0)
    return file.getvalue()


def test_other_programs_read_the_capture(lab: Lab) -> None:
    """Interfaces, directions, numbers, lost frames and comments, by scapy and by our own reader."""
    with (
        watched("library", lab, "packet") as relay,
        lab.sender("239.1.47.1", 5001, source=FIRST) as sender,
        lab.sender("239.1.47.1", 5001, source=SECOND) as stranger,
        capturing(lab, relay, "feed") as stream,
    ):
        sender.send([b"one"])
        records = read_all(stream, 3)
        stranger.send([b"two"])
        records += read_all(stream, 1)
    rule = records[0].rule
    data = written(records)
    ours = list(read_capture(io.BytesIO(data)))
    assert [(each.interface, each.data) for each in ours] == [
        (record.interface, record.frame) for record in records
    ]
    assert [each.interface for each in ours] == ["in0", "out0", "out1", "in0"]
    read = list(RawPcapNgReader(io.BytesIO(data)))
    assert [bytes(frame) for frame, _ in read] == [record.frame for record in records]
    by_reader = [meta for _, meta in read]
    for record, meta in zip(records, by_reader, strict=True):
        assert (meta.tshigh << 32 | meta.tslow) == (record.arrived_ns or record.time_ns)
    for text in (
        f"rule {rule} (feed)",
        "output 2: 239.2.47.2%out1:6002,ttl=9",
        "dropped: source",
    ):
        assert text.encode() in data


def command(daemon: Daemon, *arguments: str) -> subprocess.Popen[bytes]:
    """A command of mcr for this daemon."""
    return subprocess.Popen(
        [MCR, *arguments, "--socket", str(daemon.socket)],
        bufsize=0,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_the_commands_and_the_life_of_a_tap(lab: Lab) -> None:
    """A capture ends with its connection, outlives a worker, and is not for observers."""
    with (
        serving(lab.relay, "--ingress", "packet", "--observers", "3") as daemon,
        daemon.client() as client,
        lab.sender("239.1.47.1", 5001, source=FIRST) as sender,
        lab.sender("239.1.47.1", 5001, source=SECOND) as stranger,
    ):
        client.add_rules([V4, V6])
        observers = daemon.socket.with_name("mcr-observers.sock")
        with mcr.Client(observers) as observer, pytest.raises(mcr.RightsError):
            observer.capture()
        for wrong in ({"rule": "other"}, {"rule": "feed", "output": 3}, {"reason": "boredom"}):
            with pytest.raises(mcr.RuleError):
                capturing(lab, client, **wrong)
        with contextlib.ExitStack() as streams:
            several = [streams.enter_context(client.capture("feed")) for _ in range(4)]
            with pytest.raises(mcr.McrError, match="4 captures and traces run already"):
                client.capture()
            sender.send([b"before"])
            assert [len(read_all(stream, 3)) for stream in several] == [3] * 4
            os.kill(daemon.workers[0], signal.SIGKILL)
            wait_until(lambda: [(w.deaths, w.state) for w in client.workers()] == [(1, "running")])
            sender.send([b"after"])
            again = read_all(several[0], 3)
            assert {bytes(packet(record)[UDP].payload) for record in again} == {b"after"}
        tracing = command(daemon, "trace", "feed", "--count", "2")
        recording = command(daemon, "capture", "--reason", "any", "-w", "-", "--seconds", "20")
        assert recording.stdout is not None
        assert recording.stdout.read(4) == b"\n\r\r\n"  # the taps of both have begun, or it has
        wait_until(lambda: _is_traced(stranger, sender, tracing))
        out, errors = tracing.communicate(timeout=20)
        assert tracing.returncode == 0, errors
        text = out.decode()
        assert "received on in0: 10.1.0.2:4001 > 239.1.47.1:5001, 7 bytes, ttl 8" in text
        assert "matched rule feed" in text
        assert "sent to output 2 of feed on out1" in text
        assert "not relayed: source" in text
        recording.send_signal(signal.SIGINT)
        rest, errors = recording.communicate(timeout=20)
        assert recording.returncode == 0, errors
        frames = list(read_capture(io.BytesIO(b"\n\r\r\n" + rest)))
        count = len(frames)
        told = f"captured {count} frames: 0 received, 0 sent, {count} dropped\n"
        assert errors.decode() == told
        assert {each.interface for each in frames} == {"in0"}
        assert all(b"strange" in each.data for each in frames)


def _is_traced(stranger: object, sender: object, tracing: subprocess.Popen[bytes]) -> bool:
    """Send one of each, until the trace has what it waits for."""
    stranger.send([b"strange"])  # type: ignore[attr-defined]
    sender.send([b"relayed"])  # type: ignore[attr-defined]
    return tracing.poll() is not None


def test_a_full_ring_is_counted_and_the_relay_loses_nothing(lab: Lab) -> None:
    """What the reader misses is what it has not read."""
    sent = payloads(4000, (1400,))
    with (
        watched("library", lab, "packet") as relay,
        lab.receive("239.2.47.1", 6001) as receiver,
        lab.sender("239.1.47.1", 5001, source=FIRST) as sender,
        capturing(lab, relay, "feed", output=1, ring_bytes=1 << 20) as stream,
    ):
        for start in range(0, len(sent), 200):
            sender.send(sent[start : start + 200])
            receiver.wait_for(start + 200)
        receiver.expect(sent)
        read = 0
        while stream.read(0.1) is not None:
            read += 1
        assert 100 < read < 4000
        assert read + stream.lost == 4000
