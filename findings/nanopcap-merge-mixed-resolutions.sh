#!/usr/bin/env bash
# NanoPcap 1.0.4 (PyPI) merges a pcap file in nanoseconds and one in microseconds silently wrong:
# it orders the packets by their true times, but puts the second file's fractions under the first
# file's header as they are. The second file's times are off by up to a second, or by up to 999 if
# it is the one in nanoseconds, and the merged file is out of order.
# pcap, section 4 (file header): the magic number sets the unit of the fractions of all packets.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check NanoPcap==1.0.4
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import pathlib
import struct
import subprocess
import sys

MICROSECONDS, NANOSECONDS = (0xA1B2C3D4, 10**6), (0xA1B23C4D, 10**9)
UNITS = dict([MICROSECONDS, NANOSECONDS])
FRAME = bytes(60)
folder = pathlib.Path(sys.argv[1])


def write(name, resolution, times):
    magic, per_second = resolution
    data = struct.pack("<IHHiIII", magic, 2, 4, 0, 0, 65535, 1)
    for time in times:
        fraction = round(time % 1 * per_second)
        data += struct.pack("<IIII", int(time), fraction, len(FRAME), len(FRAME)) + FRAME
    folder.joinpath(name).write_bytes(data)


def read(name):
    data = folder.joinpath(name).read_bytes()
    per_second = UNITS[struct.unpack_from("<I", data)[0]]
    starts = range(24, len(data), 16 + len(FRAME))
    pairs = [struct.unpack_from("<II", data, start) for start in starts]
    return [seconds + fraction / per_second for seconds, fraction in pairs]


write("nanoseconds.pcap", NANOSECONDS, [100.25, 100.75])
write("microseconds.pcap", MICROSECONDS, [100.5])
tool = [sys.executable, "-m", "NanoPcap.Tools.Merge", "nanoseconds.pcap", "microseconds.pcap"]
subprocess.run([*tool, "merged.pcap"], cwd=folder, check=True)
print("merged from 100.25, 100.75 and 100.5:", read("merged.pcap"))
raise SystemExit(read("merged.pcap") != [100.25, 100.0005, 100.75])
PYTHON
