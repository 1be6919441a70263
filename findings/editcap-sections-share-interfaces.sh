#!/usr/bin/env bash
# editcap 4.0.17 (Debian 12, wireshark-common) gives the packets of a pcapng file's second section to
# the interfaces of the first. Each section counts its interfaces from 0, and the number is looked up
# among those of the first section. In two captures that were put together with cat, the packets of
# the second network are all shown at the first one, and the right interface is listed with none:
# capinfos says so. The copy that editcap writes has it like this for good, and where the first
# interface counts in microseconds, the nanoseconds of the others are gone.
# pcapng, section 4.2: the number of an interface is unique within its section; section 4.3: that of a
# packet refers to the descriptions in the packet's own section.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Debian 12 and Python 3.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
version=4.0.17-0+deb12u3
apt-get --quiet=2 --option APT::Sandbox::User=root download \
    wireshark-common=$version libwiretap13=$version libwsutil14=$version libglib2.0-0
for package in *.deb; do
    dpkg-deb --extract "$package" root
done
python3 - <<'PYTHON'
import os
import pathlib
import re
import struct
import subprocess

LIBRARIES = os.environ | {"LD_LIBRARY_PATH": "root/usr/lib/x86_64-linux-gnu"}
SECTION, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6
MICROSECONDS, NANOSECONDS = 6, 9
TIME = 1_700_000_000 * 10**9 + 123_456_789


def block(kind, body):
    length = 12 + len(body)
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def option(code, value):
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def capture(name, resolution):
    ticks = TIME // 10 ** (9 - resolution)
    description = struct.pack("<HHI", 1, 0, 262144) + option(2, name) + option(9, bytes([resolution]))
    packet = struct.pack("<IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, 60, 60) + bytes(60)
    return (
        block(SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
        + block(INTERFACE, description + bytes(4))
        + block(PACKET, packet)
    )


def read(file):
    """Name of the interface and time in nanoseconds of each packet."""
    interfaces, packets, at = [], [], 0
    while at < len(file):
        kind, length = struct.unpack_from("<II", file, at)
        body = file[at + 8 : at + length - 4]
        at += length
        if kind == SECTION:
            interfaces = []
        elif kind == INTERFACE:
            size = struct.unpack_from("<H", body, 10)[0]
            resolution = body[12 + size + -size % 4 + 4]
            interfaces.append((body[12 : 12 + size].decode(), resolution))
        elif kind == PACKET:
            number, high, low = struct.unpack_from("<III", body)
            name, resolution = interfaces[number]
            packets.append((name, (high << 32 | low) * 10 ** (9 - resolution)))
    return packets


def run(tool, *files):
    command = [f"root/usr/bin/{tool}", *files]
    return subprocess.run(command, env=LIBRARIES, check=True, capture_output=True, text=True).stdout


both = capture(b"red", MICROSECONDS) + capture(b"blue", NANOSECONDS)
pathlib.Path("both.pcapng").write_bytes(both)
summary = run("capinfos", "both.pcapng")
counts = dict(re.findall(r"Name = (\w+).*?Number of packets = (\d+)", summary, re.DOTALL))
run("editcap", "both.pcapng", "copy.pcapng")
copy = read(pathlib.Path("copy.pcapng").read_bytes())
print("in the file:", read(both))
print("packets of each interface by capinfos:", counts)
print("in the copy:", copy)
cut = TIME // 1000 * 1000
raise SystemExit(
    not (
        read(both) == [("red", cut), ("blue", TIME)]
        and counts == {"red": "2", "blue": "0"}
        and copy == [("red", cut), ("red", cut)]
    )
)
PYTHON
