#!/usr/bin/env bash
# simpleais 0.7.3 (PyPI) scales the rate of turn like a position: it divides by 60 and by 1000. The
# fastest turn that AIS can tell, more than 700 degrees a minute, comes out as 0.0021, that of a
# ship that swings at 18 degrees a minute as 0.0003, and "not available" as -0.0021. So no ship ever
# turns, and what is not known looks like the rest. pyais 3.3.1 (PyPI) has the right numbers from
# the same sentences.
# ITU-R M.1371-5, annex 8, messages 1, 2 and 3: the field is 4.733 times the square root of the rate
# in degrees a minute, with its sign; -128 means that no information is available.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check simpleais==0.7.3 pyais==3.3.1
"$folder/venv/bin/python" - <<'PYTHON'
import functools
import operator

import pyais
import simpleais

NOT_AVAILABLE = -128
POSITION, MMSI, KNOTS = 1, 211_000_001, 12.3


def build_sentence(turn):
    fields = [(POSITION, 6), (0, 2), (MMSI, 30), (0, 4), (turn % 256, 8), (int(KNOTS * 10), 10)]
    bits = "".join(f"{value:0{width}b}" for value, width in fields).ljust(168, "0")
    values = [int(bits[at : at + 6], 2) for at in range(0, len(bits), 6)]
    payload = "".join(chr(value + (48 if value < 40 else 56)) for value in values)
    content = f"AIVDM,1,1,,A,{payload},0"
    checksum = functools.reduce(operator.xor, content.encode())
    return f"!{content}*{checksum:02X}"


read = {}
for turn in (20, -20, 126, NOT_AVAILABLE):
    sentence = build_sentence(turn)
    own, other = simpleais.parse(sentence), pyais.decode(sentence)
    assert own["speed"] == other.speed == KNOTS
    read[turn] = own["turn"]
    print(f"field {turn}: simpleais {own['turn']}, pyais {other.turn}")
expected = {turn: round(turn / 60_000, 4) for turn in read}
raise SystemExit(read != expected)
PYTHON
