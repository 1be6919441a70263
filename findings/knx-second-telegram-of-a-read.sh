#!/usr/bin/env bash
# knx 0.4.0 (PyPI) takes what one read from its TCP connection returns for one telegram. Of two that
# come together the second is lost, and the first has its bytes as a value: a switch is neither 0
# nor 1 but a bytearray, with the address of the other in it. A scene that switches all lights of a
# room makes just such reads. Telegrams that come one by one are right, and one in two pieces is
# too.
# RFC 9293, section 2.2: TCP carries a stream of bytes, without the bounds of what was written; the
# length that knxd puts before each message is there to find the next one.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check knx==0.4.0
"$folder/venv/bin/python" - <<'PYTHON'
import struct

import knx

GROUP_PACKET, SENDER, ON, OFF = 0x27, 0x1105, 0x81, 0x80


class Receiver:
    def __init__(self):
        self.telegrams = []

    def send(self, telegram):
        self.telegrams.append((telegram.dst, telegram.value))


def build(group, command):
    message = struct.pack("!HHHBB", GROUP_PACKET, SENDER, knx.encode_ga(group), 0, command)
    return struct.pack("!H", len(message)) + message


def receive(*reads):
    receiver = Receiver()
    decoder = knx.telegram_decoder(receiver)
    for data in reads:
        decoder.send(data)
    return receiver.telegrams


lamp, fan = build("1/2/3", ON), build("1/2/4", OFF)
right = [("1/2/3", 1), ("1/2/4", 0)]
apart, pieces, together = receive(lamp, fan), receive(lamp[:5], lamp[5:], fan), receive(lamp + fan)
print("one by one:", apart)
print("in pieces: ", pieces)
print("in one read:", together)
is_wrong = len(together) == 1 and together[0] == ("1/2/3", fan)
raise SystemExit(not (apart == pieces == right and is_wrong))
PYTHON
