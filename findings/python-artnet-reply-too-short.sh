#!/usr/bin/env bash
# python-artnet 1.2.0 (PyPI) answers an ArtPoll with GoodOutputB as one byte. The field has four, one
# for each port, so all that follows lies three bytes too early: a node made with REFRESH=120 is read
# with a refresh rate of 0, which stands for that of DMX512, 44 Hz, and its 120 shows up as 30720 in
# the manufacturer's data. Name, address and universes come before, so the node is found and looks
# right, and only its rate is that of another one.
# Art-Net 4, ArtPollReply: GoodOutputB[4] behind Status2, then Status3, DefaultRespUID (6 bytes), User
# and RefreshRate (2 bytes each).
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check python-artnet==1.2.0
"$folder/venv/bin/python" - <<'PYTHON'
import socket
import struct

from python_artnet import Artnet

LOOPBACK, RATE, STATUS_2 = "127.0.0.1", 120, 212
POLL = b"Art-Net\0" + struct.pack("<H", 0x2000) + struct.pack("!HBB", 14, 0, 0)


def find_free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_port:
        any_port.bind((LOOPBACK, 0))
        return any_port.getsockname()[1]


def poll(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as controller:
        controller.bind((LOOPBACK, 0))
        controller.settimeout(0.5)
        for _ in range(20):
            controller.sendto(POLL, (LOOPBACK, port))
            try:
                return controller.recv(2048)
            except TimeoutError:
                continue
    raise SystemExit("the node sent no reply")


port = find_free_port()
node = Artnet(BINDIP=LOOPBACK, PORT=port, SYSIP=LOOPBACK, REFRESH=RATE)
reply = poll(port)
layout = struct.Struct("!B4sB6sHH")
_, good_outputs, _, _, user, rate = layout.unpack_from(reply, STATUS_2)
early = layout.size - 2 - 3
(found,) = struct.unpack_from("!H", reply, STATUS_2 + early)
print(f"reply of {len(reply)} bytes; name: {reply[26:44].rstrip(bytes(1)).decode()}")
print(f"refresh rate: {rate}, user data: {user}; three bytes earlier: {found}")
raise SystemExit(not (rate == 0 and user == RATE << 8 and found == RATE))
PYTHON
