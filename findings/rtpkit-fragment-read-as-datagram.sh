#!/usr/bin/env bash
# rtpkit 0.3.0 (PyPI) does not look at the fragment offset of IPv4. It takes each fragment of a
# datagram for a whole one: the first comes out with a payload that ends too early, each later one
# with its first eight bytes, which are media, read as ports, length and checksum. In a capture of
# datagrams larger than the MTU every second packet appears at ports that nobody used, and what is
# left of the stream lacks its ends. Nothing raises; the documentation of decapsulate_udp() has it
# return None for what does not apply.
# RFC 791, section 3.2: only the fragment with offset 0 begins with the header of the next protocol.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rtpkit==0.3.0
"$folder/venv/bin/python" - <<'PYTHON'
import socket
import struct

from rtpkit.io.decap import decapsulate_udp

ETHERNET, MORE_FRAGMENTS, FIRST_BYTES = 1, 0x2000, 1480
GROUP, PORT = "239.1.1.1", 5004
rtp = struct.pack("!BBHII", 0x80, 33, 1, 0, 0x11223344)
packet_of_stream = bytes.fromhex("47010010") + bytes(range(184))
media = rtp + packet_of_stream * 10
datagram = struct.pack("!HHHH", 40000, PORT, 8 + len(media), 0) + media


def frame(offset_and_flags, content):
    fields = 0x45, 0, 20 + len(content), 7, offset_and_flags, 8, socket.IPPROTO_UDP
    addresses = socket.inet_aton("192.0.2.9") + socket.inet_aton(GROUP)
    words = struct.pack("!BBHHHBB", *fields), bytes(2), addresses
    total = sum(struct.unpack("!10H", b"".join(words)))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    header = words[0] + struct.pack("!H", checksum) + words[2]
    macs = bytes.fromhex("01005e010101020000000001")
    return macs + b"\x08\x00" + header + content


whole = decapsulate_udp(ETHERNET, frame(0, datagram))
first = decapsulate_udp(ETHERNET, frame(MORE_FRAGMENTS, datagram[:FIRST_BYTES]))
later = decapsulate_udp(ETHERNET, frame(FIRST_BYTES // 8, datagram[FIRST_BYTES:]))
for name, read in (("whole", whole), ("first fragment", first), ("later fragment", later)):
    print(f"{name}: port {read.dst_port}, payload of {len(read.payload)} of {len(media)} bytes")
ports = struct.unpack_from("!HH", datagram, FIRST_BYTES)
raise SystemExit(
    not (
        bytes(whole.payload) == media
        and (first.dst_port, len(first.payload)) == (PORT, FIRST_BYTES - 8)
        and (later.src_port, later.dst_port) == ports
    )
)
PYTHON
