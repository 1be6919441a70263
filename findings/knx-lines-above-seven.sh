#!/usr/bin/env bash
# knx 0.4.0 (PyPI) keeps three bits of the line in a sender's address. Telegrams of line 8 come out
# as those of line 0, of line 15 as of line 7: the sensors 1.9.5 and 1.1.5 of a building are one
# source, so the values of both mix, and a filter for either lets the other through. Group
# addresses, whose middle number does have three bits, are right.
# KNX: an individual address is area, line and device in 4, 4 and 8 bits (documentation of Calimero,
# IndividualAddress: "4.4.8 bits"). xknx 3.8.0 (PyPI) reads it so.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check knx==0.4.0 xknx==3.8.0
"$folder/venv/bin/python" - <<'PYTHON'
import struct

import knx
from xknx.telegram import IndividualAddress

GROUP_PACKET, ON = 0x27, 0x81


class Receiver:
    def __init__(self):
        self.telegrams = []

    def send(self, telegram):
        self.telegrams.append(telegram)


def read_source(area, line, device):
    receiver = Receiver()
    source = area << 12 | line << 8 | device
    message = struct.pack("!HHHBB", GROUP_PACKET, source, knx.encode_ga("1/2/3"), 0, ON)
    knx.telegram_decoder(receiver).send(struct.pack("!H", len(message)) + message)
    (telegram,) = receiver.telegrams
    assert (telegram.dst, telegram.value) == ("1/2/3", 1)
    assert str(IndividualAddress(source)) == f"{area}.{line}.{device}"
    return telegram.src


read = {line: read_source(1, line, 5) for line in (1, 7, 8, 9, 15)}
for line, source in read.items():
    print(f"a telegram of 1.{line}.5 comes from {source}")
raise SystemExit(read != {1: "1.1.5", 7: "1.7.5", 8: "1.0.5", 9: "1.1.5", 15: "1.7.5"})
PYTHON
