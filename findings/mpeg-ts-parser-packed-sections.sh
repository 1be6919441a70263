#!/usr/bin/env bash
# mpeg-ts-parser 1.0.0 (PyPI) reads one section from a transport stream packet. It loses the section
# that follows another in the same packet, and the one that ends where the next begins. In a stream
# whose multiplexer packs its sections like this, the present or the next programme is None.
# ETSI EN 300 468, section 5.1.2: sections follow each other without a gap; the pointer_field tells
# the first that begins in a packet, and the lengths tell the others.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mpeg-ts-parser==1.0.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import pathlib
import struct
import sys

from mpeg_ts_parser.eit import parse_eit_present_following
from mpeg_ts_parser.stream import create_stream

EIT_PID, EIT_PRESENT_FOLLOWING, RUNNING, NOT_RUNNING = 0x12, 0x4E, 4, 1


def crc32(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)
            crc &= 0xFFFFFFFF
    return struct.pack("!I", crc)


def build_section(number, status, name, text):
    descriptor = b"eng" + bytes([len(name)]) + name + bytes([len(text)]) + text
    descriptor = bytes([0x4D, len(descriptor)]) + descriptor
    event = struct.pack("!HH", 100 + number, 60000) + bytes([0x20, number, 0, 1, 0, 0])
    event += struct.pack("!H", status << 13 | len(descriptor)) + descriptor
    body = struct.pack("!HBBBHHBB", 1, 0xC1, number, 1, 1, 1, 1, EIT_PRESENT_FOLLOWING) + event
    head = struct.pack("!BH", EIT_PRESENT_FOLLOWING, 0xF000 | len(body) + 4)
    return head + body + crc32(head + body)


def build_packet(counter, payload, pointer=None):
    start = 0x4000 if pointer is not None else 0
    head = struct.pack("!BHB", 0x47, start | EIT_PID, 0x10 | counter)
    head += bytes([pointer]) if pointer is not None else b""
    return (head + payload).ljust(188, b"\xff")


def names(*packets):
    file = pathlib.Path(sys.argv[1], "stream.ts")
    file.write_bytes(b"".join(packets))
    with create_stream(str(file)) as stream:
        found = parse_eit_present_following(stream, EIT_PID)
    return [event and event["name"] for event in (found["present"], found["next"])]


following = build_section(1, NOT_RUNNING, b"Weather", b"")
present = build_section(0, RUNNING, b"News", b"")
long_present = build_section(0, RUNNING, b"News", bytes(b"x" * 150))
apart = names(build_packet(0, present, 0), build_packet(1, following, 0))
in_one = names(build_packet(0, present + following, 0))
tail = long_present[183:]
across = names(build_packet(0, long_present[:183], 0), build_packet(1, tail + following, len(tail)))
print("each in its packet:            ", apart)
print("both in one packet:            ", in_one)
print("second begins where first ends:", across)
raise SystemExit(
    apart != ["News", "Weather"] or in_one != ["News", None] or across != [None, "Weather"]
)
PYTHON
