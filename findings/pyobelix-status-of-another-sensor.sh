#!/usr/bin/env bash
# pyobelix 0.1.0 (PyPI) numbers the parts of a radar's status without the two positions that the
# format leaves empty. What a north marker says about the primary radar comes out as the status of
# Mode S, and what it says about Mode S as that of two parts that do not exist. Where the message
# has the processing mode too, all that follows is read two octets too early: a radar near Frankfurt
# gives its own position as one in the Pacific. Nothing raises; only the second case leaves a
# warning in the log. Target reports are right.
# EUROCONTROL-SPEC-0149-2b, ASTERIX category 034 (edition 1.29), I034/050 and I034/060: of the
# primary subfield, bit 8 is COM, bits 7 and 6 are spare, bits 5, 4 and 3 are PSR, SSR and MDS.
# asterix_decoder 0.7.11 (PyPI) reads them so.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11, a C compiler and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pyobelix==0.1.0 asterix_decoder==0.7.11
"$folder/venv/bin/python" - <<'PYTHON'
import struct

import asterix
from pyobelix import iter_records

SERVICE, NORTH_MARKER, NOON = 34, 1, 12 * 3600 * 128
COM, PSR, SSR, MDS = 0x80, 0x10, 0x08, 0x04
ALL, OVERLOAD = COM | PSR | SSR | MDS, 0x10
DEGREE = 2**23 / 180
HERE = (50.03, 8.56)


def build_block(fspec, items):
    record = fspec + bytes([25, 201, NORTH_MARKER]) + NOON.to_bytes(3) + items
    return struct.pack("!BH", SERVICE, 3 + len(record)) + record


def read(block):
    (other,) = asterix.parse(block, verbose=False)
    return next(iter_records(block)), other


status = bytes([ALL, 0, OVERLOAD, 0, 0, 0])
mode = bytes([ALL, 0, 0, 0, 0])
position = struct.pack("!h", 120) + b"".join(
    round(degrees * DEGREE).to_bytes(3, signed=True) for degrees in HERE
)
own, other = read(build_block(b"\xe4", status))
assert other["I050"]["PSR"]["PSROVL"]["val"] == 1 and other["I050"]["MDS"]["MDSOVLSUR"]["val"] == 0
named = {name: value for name, value in own.items() if name.startswith("sys_cfg")}
print("an overload of the primary radar:", named)
own, other = read(build_block(b"\xe7\x10", status + mode + position))
other = (other["I120"]["LAT"]["val"], other["I120"]["Lon"]["val"])
place = (own["latitude"], own["longitude"])
print(f"position of the radar: {place}, by asterix_decoder: {other}")
is_shifted = named["sys_cfg_mds_hex"] == "1000" and "sys_cfg_psr_hex" not in named
is_right = all(abs(read - sent) < 0.001 for read, sent in zip(other, HERE))
raise SystemExit(not (is_shifted and is_right and abs(place[1] - HERE[1]) > 90))
PYTHON
