#!/usr/bin/env bash
# aiortp 0.8.0 (PyPI) takes the difference of two RTP timestamps without the wrap at 2^32. Streams
# begin at a random timestamp, so an evenly sent stream at 90 kHz wraps once within 13 hours, and
# its jitter then jumps by 2^28 ticks, 50 minutes, and takes hundreds of packets to fall again.
# RFC 3550, appendix A.8, computes the transit time in 32 bits, where the wrap cancels out.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check aiortp==0.8.0
"$folder/venv/bin/python" - <<'PYTHON'
import time
from unittest import mock

from aiortp.packet import RtpPacket
from aiortp.stats import StreamStatistics

CLOCK, PERIOD = 90_000, 0.04


def jitter(first_timestamp, packets=10):
    statistics = StreamStatistics(CLOCK)
    for index in range(packets):
        timestamp = (first_timestamp + index * int(CLOCK * PERIOD)) % 2**32
        with mock.patch("time.monotonic", return_value=1000 + index * PERIOD):
            statistics.add(
                RtpPacket(payload_type=33, sequence_number=index, timestamp=timestamp)
            )
    return statistics.jitter


even, wrapping = jitter(0), jitter(2**32 - 5 * int(CLOCK * PERIOD))
print("jitter of an evenly sent stream, in ticks:", even)
print("of the same stream where the timestamp wraps:", wrapping)
raise SystemExit(not (even <= 1 and wrapping > 100_000_000))
PYTHON
