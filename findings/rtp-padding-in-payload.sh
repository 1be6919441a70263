#!/usr/bin/env bash
# rtp 0.0.4 (PyPI) knows the padding bit of RTP, but not the padding. What it reads is handed out with
# the padding behind the media; a transport stream loses its grid of 188 bytes. What it writes with
# padding=True has the bit and no padding, so that receivers take the last byte of the media as the
# number of bytes to cut off: the last of seven transport stream packets comes out as a piece, and a
# payload that ends in a zero is invalid.
# RFC 3550, section 5.1: the padding is not a part of the payload; its last byte counts its bytes.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rtp==0.0.4
"$folder/venv/bin/python" - <<'PYTHON'
import struct

from rtp import RTP, PayloadType

PADDING = 4
STUFFING = b"\x47\x1f\xff\x10".ljust(187, b"\xff") + b"\x60"
MEDIA = STUFFING * 7


def strip(packet):
    """The payload as RFC 3550 has it, without CSRCs and extensions."""
    end = len(packet) - packet[-1] if packet[0] & 0x20 else len(packet)
    return packet[12:end]


padded = struct.pack("!BBHII", 0xA0, PayloadType.MP2T, 1, 0, 7) + MEDIA
padded += bytes(PADDING - 1) + bytes([PADDING])
assert strip(padded) == MEDIA
read = RTP().fromBytes(padded)
written = RTP(padding=True, payloadType=PayloadType.MP2T, payload=bytearray(MEDIA)).toBytes()
print(f"media sent: {len(MEDIA)} bytes; payload read: {len(read.payload)}")
print(f"bytes written behind the media: {len(written) - 12 - len(MEDIA)}")
print(f"media that a receiver keeps: {len(strip(written))}")
raise SystemExit(
    len(read.payload) != len(MEDIA) + PADDING
    or len(written) != 12 + len(MEDIA)
    or len(strip(written)) != len(MEDIA) - MEDIA[-1]
)
PYTHON
