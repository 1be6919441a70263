#!/usr/bin/env bash
# moldudp 0.0.21 (PyPI) fills each packet with zeros to the size that it takes for the largest one on
# Ethernet, and forgets the IP header in its sum: MTU 1500 less 8 for UDP, all of it payload. So one
# message of 4 bytes becomes a payload of 1492 bytes, 1520 with the headers, and every datagram
# leaves in two IP fragments, which many switches and network cards handle badly or drop.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check moldudp==0.0.21
"$folder/venv/bin/python" - <<'PYTHON'
from moldudp.codec.encoder import MoldUDPEncoder
from moldudp.msg.msgpub import MsgPublisher

IPV4_AND_UDP_HEADERS = 20 + 8
MTU = 1500


class Publisher(MsgPublisher):
    def __init__(self):
        self.sizes = []

    def publish(self, packet):
        self.sizes.append(len(packet))


publisher = Publisher()
encoder = MoldUDPEncoder(publisher)
encoder.session(b"SESSION001")
encoder.seq(1)
encoder.add_msg(b"tick")
encoder.process()
print("payload of a packet with one message of 4 bytes:", publisher.sizes)
is_fragmented = [size + IPV4_AND_UDP_HEADERS > MTU for size in publisher.sizes]
print("larger than an Ethernet frame holds:", is_fragmented)
raise SystemExit(not (publisher.sizes == [1492] and is_fragmented == [True]))
PYTHON
