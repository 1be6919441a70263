"""Captures of every kind of loss and egress, field by field as tshark reads them."""

import asyncio
import contextlib
import io
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.deadline import wait_until

import mcr
from mcr.taps.pcapng import PcapngWriter

from .bursts import BurstSender, LinkReceiver
from .checks import assert_balanced, settle
from .daemons import serving
from .egress import (
    MIXED,
    OUT_PORT,
    WARM_S,
    Kind,
    copy_group,
    flow,
    output,
    rule,
    send_in_bursts,
    single_frames,
    ways,
)
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import payloads

pytestmark = pytest.mark.skipif(
    shutil.which("tshark") is None, reason="tshark is not installed (apt-get install tshark)"
)
FIELDS = (
    *("frame.interface_name", "frame.packet_flags_direction", "frame.comment", "frame.time_epoch"),
    *("eth.dst", "ip.src", "ip.dst", "ip.ttl", "ip.dsfield.dscp", "ip.checksum.status"),
    *("ipv6.src", "ipv6.dst", "ipv6.hlim", "udp.srcport", "udp.dstport", "udp.checksum.status"),
    *("udp.payload", "frame.len", "frame.cap_len"),
)
INBOUND, OUTBOUND = "0x00000001", "0x00000002"
GOOD = "1"
Row = dict[str, str]


def rows(records: list[mcr.DatagramRecord], folder: Path) -> list[Row]:
    """The records, written to a capture and read by tshark; each frame is one row."""
    file = io.BytesIO()
    writer = PcapngWriter(file)
    for record in records:
        writer.write(record, 0)
    path = folder / "capture.pcapng"
    path.write_bytes(file.getvalue())
    checks = [word for proto in ("ip", "udp") for word in ("-o", f"{proto}.check_checksum:TRUE")]
    wanted = [word for name in FIELDS for word in ("-e", name)]
    command = ["tshark", "-n", "-r", str(path), *checks, "-T", "fields", "-E", "separator=|"]
    done = subprocess.run(
        [*command, *wanted], capture_output=True, text=True, timeout=60, check=True
    )
    found = [dict(zip(FIELDS, line.split("|"), strict=True)) for line in done.stdout.splitlines()]
    assert len(found) == len(records)
    return found


def read_all(stream: mcr.TapStream) -> list[mcr.DatagramRecord]:
    """What the stream has."""
    records: list[mcr.DatagramRecord] = []
    while (record := stream.read(0.2)) is not None:
        records.append(record)
    assert stream.lost == 0
    return records


@contextlib.contextmanager
def relayed(
    lab: Lab, kind: Kind, ingress: Ingress, text: str
) -> Iterator[tuple[mcr.Relay | mcr.Client, Callable[[str], mcr.TapStream]]]:
    """A relay or the client of a daemon, and what captures the drops for a reason."""
    with contextlib.ExitStack() as stack:
        relay: mcr.Relay | mcr.Client
        if kind == "library":
            relay = stack.enter_context(relaying(lab.relay, text, ingress=ingress))
        else:
            daemon = stack.enter_context(serving(lab.relay, "--ingress", ingress))
            relay = stack.enter_context(daemon.client())
            relay.add_rules([text])

        def capture(reason: str) -> mcr.TapStream:
            with lab.relay:
                return stack.enter_context(relay.capture("feed", reason=reason))

        yield relay, capture


@pytest.mark.parametrize("version", [4, 6])
def test_copies_that_no_queue_takes(
    lab: Lab, kind: Kind, ingress: Ingress, version: int, tmp_path: Path
) -> None:
    """`output_full`: as many frames as the counter has, whole, with the output in the comment."""
    into, out = ("239.1.48.1", "239.2.48.1") if version == 4 else ("ff15::48:1", "ff15::48:2")
    target = f"{out}%out1:6001,ttl=7,dscp=46"
    shape = ("tbf", "rate", "1mbit", "burst", "20000", "limit", "20000")
    sent = payloads(200)
    with (
        lab.relay.shaped("out1", *shape),
        relayed(lab, kind, ingress, f"{into}%in0:5001,name=feed to {target}") as (relay, capture),
        lab.sender(into, 5001) as sender,
    ):
        stream = capture("output_full")
        sender.send(sent)
        wait_until(lambda: relay.stats().rules[0].matched == len(sent))
        shown = rows(read_all(stream), tmp_path)
        stats = relay.stats()
        assert_balanced(stats)
        lab.relay.reshape("out1", "tbf", "rate", "10gbit", "burst", "20000", "limit", "20000")
    assert len(shown) == stats.rules[0].outputs[0].dropped["output_full"] > 0
    wanted = iter(sent)
    ip = {"ip.dst": out, "ip.ttl": "7", "ip.checksum.status": GOOD, "ip.dsfield.dscp": "46"}
    for row in shown:
        assert row["frame.interface_name"] == "out1"
        assert row["frame.packet_flags_direction"] == OUTBOUND
        assert f"rule {stats.rules[0].id} (feed)" in row["frame.comment"]
        assert f"output 1: {target}" in row["frame.comment"]
        assert "dropped: output_full" in row["frame.comment"]
        assert (row["udp.dstport"], row["udp.checksum.status"]) == ("6001", GOOD)
        expected = ip if version == 4 else {"ipv6.dst": out, "ipv6.hlim": "7"}
        assert {name: row[name] for name in expected} == expected
        # In the order in which they arrived, and none that was not sent.
        assert bytes.fromhex(row["udp.payload"]) in wanted


def test_copies_that_are_too_long(lab: Lab, kind: Kind, tmp_path: Path) -> None:
    """`too_big`: a frame with the headers that it would have, and its length."""
    large, small = payloads(3, (1_600,)), payloads(3, seed=2)
    into, out = "239.1.48.5", "239.2.48.5"
    # Without a port of its own a copy leaves in fragments.
    text = f"{into}%in0:5001,name=feed to {out}%out0:6001,sport=keep"
    with (
        lab.receive(out, 6001) as receiver,
        relayed(lab, kind, "udp", text) as (relay, capture),
        lab.sender(into, 5001) as sender,
    ):
        stream = capture("too_big")
        sender.send(large)
        sender.send(small)
        receiver.expect(small)
        wait_until(lambda: relay.stats().rules[0].matched == len(large) + len(small))
        records = read_all(stream)
        stats = relay.stats()
        assert_balanced(stats)
    assert len(records) == stats.rules[0].outputs[0].dropped["too_big"] == len(large)
    for row, record in zip(rows(records, tmp_path), records, strict=True):
        assert "dropped: too_big (EMSGSIZE)" in row["frame.comment"]
        assert (row["frame.interface_name"], row["ip.dst"]) == ("out0", out)
        assert int(row["frame.len"]) == record.frame_bytes == 14 + 20 + 8 + 1_600
        assert int(row["frame.cap_len"]) == len(record.frame)
        assert row["udp.dstport"] == "6001"


def test_copies_that_leave_through_xdp(lab: Lab, ingress: Ingress, tmp_path: Path) -> None:
    """The frames are those that the receiver sees on the wire, in all fields."""
    single_frames(lab)
    target = output(1, options=",ttl=5,dscp=46")
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        relaying(lab.relay, rule(1, target), ingress=ingress) as relay,
        BurstSender(lab.source, "s0") as sender,
    ):

        def warm() -> bool:
            send_in_bursts(sender, [flow(1)], MIXED[:256], relay.stats)
            return ways(relay.stats()) == ["xdp"]

        wait_until(warm, WARM_S)
        before = relay.stats().rules[0].outputs[0].sent
        link.wait_for(before)
        link.forget()
        with lab.relay:
            stream = relay.capture(take=["sent"])
        with stream:
            some = MIXED[:200]
            send_in_bursts(sender, [flow(1)], some, relay.stats)
            settle(relay, lambda stats: stats.rules[0].outputs[0].sent == before + len(some))
            assert ways(relay.stats()) == ["xdp"]
            seen = link.wait_for(len(some))
            shown = rows(read_all(stream), tmp_path)
    assert len(shown) == len(seen) == len(some)
    for row, frame, payload in zip(shown, seen, some, strict=True):
        assert bytes.fromhex(row["udp.payload"]) == payload
        assert (row["ip.src"], int(row["udp.srcport"])) == frame.source
        assert (row["ip.dst"], row["udp.dstport"]) == (copy_group(1), str(OUT_PORT))
        assert bytes.fromhex(row["eth.dst"].replace(":", "")) == frame.macs[0]
        assert (row["ip.ttl"], row["ip.dsfield.dscp"]) == ("5", "46")
        assert (row["ip.checksum.status"], row["udp.checksum.status"]) == (GOOD, GOOD)
        assert row["frame.interface_name"] == "out0"
        assert row["frame.packet_flags_direction"] == OUTBOUND


def test_a_capture_in_asyncio(lab: Lab, ingress: Ingress, tmp_path: Path) -> None:
    """Of a daemon and of a relay of this process: the same frames as the blocking form."""
    text = "239.1.48.9%in0:5001,name=feed to 239.2.48.9%out0:6001"
    sent = payloads(20, (300,))

    async def take(stream: mcr.TapStream, send: Callable[[], None]) -> list[mcr.DatagramRecord]:
        found: list[mcr.DatagramRecord] = []
        async with stream:
            await asyncio.to_thread(send)
            async for record in stream:
                found.append(record)
                if len(found) == 2 * len(sent):
                    break
        assert stream.lost == 0
        return found

    async def of_daemon(path: Path, send: Callable[[], None]) -> list[mcr.DatagramRecord]:
        async with mcr.AsyncClient(path) as client:
            return await take(client.capture("feed"), send)

    with lab.sender("239.1.48.9", 5001) as sender:

        def send() -> None:
            sender.send(sent)

        with serving(lab.relay, "--ingress", ingress) as daemon, daemon.client() as client:
            client.add_rules([text])
            remote = asyncio.run(asyncio.wait_for(of_daemon(daemon.socket, send), 30))
        with relaying(lab.relay, text, ingress=ingress) as relay:
            with lab.relay:
                stream = relay.capture("feed")
            local = asyncio.run(asyncio.wait_for(take(stream, send), 30))
    for records in (remote, local):
        shown = rows(records, tmp_path)
        for direction, interface, port in ((INBOUND, "in0", "5001"), (OUTBOUND, "out0", "6001")):
            found = [row for row in shown if row["frame.packet_flags_direction"] == direction]
            assert [bytes.fromhex(row["udp.payload"]) for row in found] == sent
            assert {row["frame.interface_name"] for row in found} == {interface}
            assert {row["udp.dstport"] for row in found} == {port}
        # What arrives by a veth may have its checksum still to come, as in any capture there.
        assert {row["udp.checksum.status"] for row in found} == {GOOD}
