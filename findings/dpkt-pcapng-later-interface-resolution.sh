#!/usr/bin/env bash
# dpkt 1.9.8 (PyPI) uses the time resolution of a pcapng file's first interface for the packets of
# all: in a file with an interface in microseconds and one in nanoseconds, as dumpcap writes it for
# two kinds of devices, the packets of the second lie a thousand times too late.
# pcapng, section 4.2: if_tsresol is an option of each interface.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dpkt==1.9.8
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct

import dpkt

SECONDS = 1_700_000_000


def block(kind, body):
    length = 12 + len(body)
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def interface(power_of_ten):
    resolution = struct.pack("<HHB3x", 9, 1, power_of_ten)
    return block(1, struct.pack("<HHI", 1, 0, 262144) + resolution + bytes(4))


def packet(interface, ticks):
    head = struct.pack("<IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, 60, 60)
    return block(6, head + bytes(60))


section = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
packets = packet(0, SECONDS * 10**6) + packet(1, SECONDS * 10**9)
times = [
    float(time)
    for time, _ in dpkt.pcapng.Reader(io.BytesIO(section + interface(6) + interface(9) + packets))
]
print("two packets of the same second:", times)
raise SystemExit(times != [SECONDS, SECONDS * 1000])
PYTHON
