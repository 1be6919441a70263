#!/usr/bin/env bash
# aiortp 0.8.0 (PyPI) writes the RTP header extension "transmission time offset" with two of its
# three bytes: it cuts the number after the second. It cannot read such a packet itself
# (struct.error), and other receivers find an element of a wrong length. It reads the three bytes
# that other senders write.
# RFC 5450, section 2: the offset is a signed number of 24 bits.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check aiortp==0.8.0
"$folder/venv/bin/python" - <<'PYTHON'
import struct

from aiortp.packet import HeaderExtensionsMap, RtpPacket

OFFSET = 70_000
extensions = HeaderExtensionsMap()
extensions.configure([(3, "urn:ietf:params:rtp-hdrext:toffset")])

packet = RtpPacket(payload_type=96, sequence_number=1, timestamp=0, payload=b"x")
packet.extensions.transmission_offset = OFFSET
written = packet.serialize(extensions)
element_bytes = (written[16] & 0x0F) + 1
try:
    RtpPacket.parse(written, extensions)
    own = "read"
except struct.error as error:
    own = f"struct.error: {error}"
three_bytes = struct.pack("!i", OFFSET)[1:]
foreign = written[:16] + b"\x32" + three_bytes + b"x"
offset = RtpPacket.parse(foreign, extensions).extensions.transmission_offset
print(f"bytes written: {element_bytes}; own packet: {own}; three bytes: {offset}")
raise SystemExit(not (element_bytes == 2 and own != "read" and offset == OFFSET))
PYTHON
