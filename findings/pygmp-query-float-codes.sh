#!/usr/bin/env bash
# py-gmp 0.0.2 (PyPI) misreads the two times of an IGMPv3 query from 128 up, where their codes are
# small floating point numbers: the response time comes out 4 to 64 times too small, and the query
# interval is the bare code. An interval of 1984 seconds becomes 191, so a router that computes with
# it takes the querier for lost between two of its queries (section 8.5).
# RFC 3376, sections 4.1.1 and 4.1.7: from code 128 on, value = (mant | 0x10) << (exp + 3).
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check py-gmp==0.0.2
"$folder/venv/bin/python" - <<'PYTHON'
import struct

from pygmp import kernel


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def read_times(code):
    head = struct.pack("!BB", 0x11, code)
    rest = struct.pack("!4BBBH", 239, 1, 1, 1, 2, code, 0)
    sum_field = struct.pack("!H", checksum(head + rest))
    query = kernel.parse_igmp(head + sum_field + rest)
    return query.max_response_time, query.querier_query_interval


def meant(code):
    return (code & 0x0F | 0x10) << ((code >> 4 & 0x07) + 3)


for code in (100, 137, 164, 191, 255):
    expected = meant(code) if code >= 128 else code
    print(f"code {code}: response time and interval {read_times(code)}, meant: {expected}")
small_are_right = all(read_times(code) == (code, code) for code in range(1, 128))
large_are_wrong = all(
    read_times(code)[0] < meant(code) and read_times(code)[1] == code for code in range(129, 256)
)
raise SystemExit(not (small_are_right and large_are_wrong and read_times(137) == (50, 137)))
PYTHON
