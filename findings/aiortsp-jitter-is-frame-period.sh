#!/usr/bin/env bash
# aiortsp 1.4.0 (PyPI) reports the distance of two RTP timestamps as jitter. Its clock never starts:
# it takes every packet as arriving at 0, so what is left of the difference of two transit times is
# the period of the frames. An evenly sent stream of 25 frames a second is reported with 40 ms, one
# that bunches its packets with 40 ms too, and a real fault of the network changes nothing.
# RFC 3550, section 6.4.1 and appendix A.8: the jitter is that of the arrival time less the timestamp.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check aiortsp==1.4.0 dpkt==1.9.8
"$folder/venv/bin/python" - <<'PYTHON'
import struct
from unittest import mock

from aiortsp.rtcp import stats
from aiortsp.rtcp.parser import RTCP, SR
from dpkt.rtp import RTP

CLOCK, SENDER = 90_000, 0x1234_5678
START, PACKETS = 1_700_000_000.0, 400


def reported_jitter(frames_per_second, bunch):
    """Jitter in ms where each `bunch` of packets arrives at once."""
    with mock.patch.object(stats, "time", return_value=START) as now:
        receiver = stats.RTCPStats()
        for number in range(PACKETS):
            now.return_value = START + (number - number % bunch) / frames_per_second
            timestamp = 5_000_000 + number * CLOCK // frames_per_second
            if number % 100 == 0:
                report = SR(ssrc=SENDER, ntp=now.return_value, ts=timestamp)
                receiver.handle_rtcp(RTCP([report]))
            header = struct.pack("!BBHII", 0x80, 96, 100 + number, timestamp, SENDER)
            receiver.update(RTP(header + b"x" * 100))
        (block,) = receiver.build_rtcp().packets[0].reports
    return block.jitter * 1000 / CLOCK


even, bunched = reported_jitter(25, bunch=1), reported_jitter(25, bunch=10)
faster = reported_jitter(50, bunch=1)
print(f"25 frames a second, sent evenly: {even:.1f} ms")
print(f"the same, ten at a time:         {bunched:.1f} ms")
print(f"50 frames a second, sent evenly: {faster:.1f} ms")
raise SystemExit(not (39 < even < 41 and bunched == even and 19 < faster < 21))
PYTHON
