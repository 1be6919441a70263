#!/usr/bin/env bash
# moldudp 0.0.21 (PyPI) reads MoldUDP64's message count as a signed number. The end of a session is
# told by count 65535, which it takes for -1: is_eos() is False, on_eos() is never called, and the
# datagram counts as one without messages. A program that waits for the end waits for ever.
# MoldUDP64 1.00, "Message Count": 0 is a heartbeat, 0xFFFF the end of the session.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check moldudp==0.0.21
"$folder/venv/bin/python" - <<'PYTHON'
import struct

from moldudp.codec.decoder import MoldUDPDecoder
from moldudp.msg.msgsub import MsgSubscriber


class Subscriber(MsgSubscriber):
    def __init__(self):
        self.calls = []

    def on_msgblk(self, message):
        self.calls.append("message")

    def on_hb(self):
        self.calls.append("heartbeat")

    def on_eos(self):
        self.calls.append("end of session")


def calls_for(count):
    subscriber = Subscriber()
    decoder = MoldUDPDecoder(subscriber)
    decoder.buffer(struct.pack("!10sQH", b"SESSION001", 42, count))
    decoder.decode()
    return decoder.count(), decoder.is_eos(), subscriber.calls


heartbeat, end = calls_for(0), calls_for(65535)
print("count 0:    ", heartbeat)
print("count 65535:", end)
raise SystemExit(
    not (heartbeat == (0, False, ["heartbeat"]) and end == (-1, False, []))
)
PYTHON
