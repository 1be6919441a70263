#!/usr/bin/env bash
# arinc429 0.1.7 (PyPI) reads the sign of a binary number as one more bit of its amount: -100, which
# it wrote itself, comes back as 524188. When it writes one, the sign runs on into the status: a
# word that is marked as a functional test leaves as one of normal operation, one that reports a
# failure as one without computed data. With a positive value, both ways are right. Nothing raises.
# ARINC 429, part 1: a BNR word is in two's complement, and bit 29 is its sign; section 2.1.5.2,
# bits 31 and 30 of a BNR word: 00 failure warning, 01 no computed data, 10 functional test, 11
# normal operation.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check arinc429==0.1.7
"$folder/venv/bin/python" - <<'PYTHON'
from arinc429 import Decoder, Encoder

VERTICAL_SPEED = 0o212
STATUS = {0b00: "failure", 0b01: "no data", 0b10: "test", 0b11: "normal"}


def pass_on(value, status):
    encoder = Encoder()
    encoder.encode(label=VERTICAL_SPEED, value=value, ssm=status, encoding="BNR")
    word = Decoder().decode(encoder.bword, "BNR")
    assert word.label == VERTICAL_SPEED
    return word.value, word.ssm, encoder.word


for value in (100, -100):
    for status, name in STATUS.items():
        read, status_read, _ = pass_on(value, status)
        print(f"{value}, {name}: {read:.0f}, {STATUS[status_read]}")
climb = [pass_on(100, status)[:2] for status in STATUS]
descent = [pass_on(-100, status)[:2] for status in STATUS]
is_right = climb == [(100, status) for status in STATUS]
raise SystemExit(not (is_right and descent == [(2**19 - 100, status | 1) for status in STATUS]))
PYTHON
