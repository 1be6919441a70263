#!/usr/bin/env bash
# python-pcapng 2.1.1 (PyPI) reads isb_starttime and isb_endtime, the times of an interface's
# statistics, as one little-endian number of 64 bits. The format has the upper 32 bits first, so the
# halves are swapped; the time of the block itself, laid out alike, comes out right.
# pcapng, section 4.6: "in the same format as the timestamps of the Enhanced Packet Block".
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check python-pcapng==2.1.1
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct

import pcapng

TICKS = 1_700_000_000 * 10**6


def block(kind, body):
    length = 12 + len(body)
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


halves = struct.pack("<II", TICKS >> 32, TICKS & 0xFFFFFFFF)
start = struct.pack("<HH", 2, 8) + halves
file = (
    block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    + block(1, struct.pack("<HHI", 1, 0, 262144))
    + block(5, struct.pack("<I", 0) + halves + start + bytes(4))
)
statistics = list(pcapng.FileScanner(io.BytesIO(file)))[-1]
read = statistics.options["isb_starttime"]
swapped = (TICKS & 0xFFFFFFFF) << 32 | TICKS >> 32
print("written:", TICKS, "time of the block:", statistics.timestamp, "isb_starttime:", read)
raise SystemExit(not (statistics.timestamp == TICKS / 10**6 and read == swapped))
PYTHON
