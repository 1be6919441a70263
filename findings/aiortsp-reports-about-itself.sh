#!/usr/bin/env bash
# aiortsp 1.4.0 (PyPI) puts its own SSRC into the report block, where the SSRC of the reported stream
# belongs, and names itself under SSRC 1. A server finds no report on the stream that it sends: its
# loss display stays empty, or it takes the session for unattended and ends it, although a report
# arrives every few seconds. All its receivers claim the name of the same source.
# RFC 3550, section 6.4.1: SSRC_n is the source "to which the information in this reception report
# block pertains"; section 6.5: an SDES chunk begins with the SSRC of the source that it describes.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check aiortsp==1.4.0 dpkt==1.9.8
"$folder/venv/bin/python" - <<'PYTHON'
import struct
import time

from aiortsp.rtcp.parser import RTCP, SR
from aiortsp.rtcp.stats import RTCPStats
from dpkt.rtp import RTP

SENDER = 0x1234_5678
RECEIVER_REPORT, SOURCE_DESCRIPTION = 201, 202

receiver = RTCPStats()
sent = bytes(RTCP([SR(ssrc=SENDER, ntp=time.time(), pkt_count=4, byte_count=4000)]))
receiver.handle_rtcp(RTCP.unpack(sent))
for number in range(4):
    header = struct.pack("!BBHII", 0x80, 33, 100 + number, 3600 * number, SENDER)
    receiver.update(RTP(header + b"x" * 1000))

data = bytes(receiver.build_rtcp())
kind, length, own, reported = struct.unpack_from("!xBHII", data)
assert kind == RECEIVER_REPORT
named_kind, described = struct.unpack_from("!xB2xI", data, 4 * (length + 1))
assert named_kind == SOURCE_DESCRIPTION
print(f"SSRC of the stream: {SENDER:08x}, of the receiver: {own:08x}")
print(f"the report is about {reported:08x}, the name belongs to {described:08x}")
raise SystemExit(not (own != SENDER and reported == own and described == 1))
PYTHON
