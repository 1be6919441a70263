"""A capture of MoldUDP64, built here, is played through a merging rule, and by tshark."""

import shutil
import subprocess
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from .bursts import BurstSender
from .checks import dropped, settle
from .feeds import PORT, RULE, A, B, merge_of, received
from .frames import Flow
from .lab import Lab
from .mold_capture import SESSIONS, MoldPacket, Sent, feeds, read_capture, write_capture
from .relays import Ingress, relaying

FLOWS = (Flow("10.1.0.2", A[0], PORT), Flow("fd04::2", B[0], PORT))
LOSS = 0.1
FIELDS = ("moldudp64.session", "moldudp64.sequence", "moldudp64.count")


def test_a_market_is_merged_message_by_message(lab: Lab, ingress: Ingress, tmp_path: Path) -> None:
    """What either feed has of each session leaves once: messages, heartbeats, and the end."""
    sent = feeds(11, LOSS)
    path = tmp_path / "market.pcap"
    write_capture(path, sent, FLOWS)
    check_with_tshark(path, sent)
    frames = [*read_capture(path)]
    assert len(frames) == len(sent)
    packets = {leg: Counter(each.packet for each in sent if each.leg == leg) for leg in (0, 1)}
    expected = packets[0] | packets[1]
    with ExitStack() as stack:
        receiver = stack.enter_context(lab.receive("239.2.90.1", 6001))
        senders = [stack.enter_context(BurstSender(lab.source, name)) for name in ("s0", "s1")]
        relay = stack.enter_context(
            relaying(lab.relay, RULE.replace("merge=rtp", "merge=mold"), ingress=ingress)
        )
        played = [0, 0]
        for each, frame in zip(sent, frames, strict=True):
            senders[each.leg].send([frame])
            played[each.leg] += 1
            if sum(played) == 1 or each.packet.count == 0:
                settle(relay, lambda now: received(now) == played)
        stats = settle(relay, lambda now: received(now) == played)
        got = receiver.wait_for(sum(expected.values()))
    assert Counter(got) == Counter({each.payload: n for each, n in expected.items()})
    merge = merge_of(stats)
    assert merge.restarts == len(SESSIONS) - 1
    assert merge.lost == sum(lost_messages(session, expected) for session in SESSIONS)
    # The first packet of the second session is believed when the other feed has it too.
    strange = [dropped(stats, name, "out_of_sequence") for name in ("in0", "big")]
    assert sum(strange) == sum(leg.out_of_sequence for leg in merge.legs) <= 3
    assert stats.rules[0].outputs[0].sent == len(got)


def lost_messages(session: str, packets: Counter[MoldPacket]) -> int:
    """Messages of a session that are in no packet, but before some that are."""
    numbers = {
        each.first + at
        for each in packets
        if each.session == session
        for at in range(len(each.messages))
    }
    return max(numbers) + 1 - min(numbers) - len(numbers)


def check_with_tshark(path: Path, sent: list[Sent]) -> None:
    """Compare the capture with what tshark reads in it, where that is installed."""
    if shutil.which("tshark") is None:
        return
    command = ["tshark", "-n", "-r", str(path), "-d", f"udp.port=={PORT},moldudp64"]
    wanted = [word for name in FIELDS for word in ("-e", name)]
    done = subprocess.run(
        [*command, "-T", "fields", "-E", "separator=|", *wanted],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = [line.split("|") for line in done.stdout.splitlines()]
    packets = [each.packet for each in sent]
    assert [row[0] for row in found] == [each.session for each in packets]
    assert [int(row[1], 0) for row in found] == [each.first for each in packets]
    assert [int(row[2], 0) for row in found] == [each.count for each in packets]
