#!/usr/bin/env bash
# aioartnet 0.2.1 (PyPI) reads an ArtPoll of exactly 14 bytes. The revision of Art-Net 4 that its
# source refers to has more fields behind these: the range of universes that is asked for, and the
# asking product. With them the handler raises struct.error, so the node sends no reply, and it does
# not exist for such a controller.
# Art-Net 4 (revision 1.4di), ArtPoll: "Consumers of ArtPoll shall accept as valid a packet of length
# 14 bytes or larger."
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check aioartnet==0.2.1
"$folder/venv/bin/python" - <<'PYTHON'
import struct
from unittest import mock

from aioartnet.client import ArtNetClient, ArtNetClientProtocol

CONTROLLER = ("192.0.2.10", 6454)
POLL = b"Art-Net\0" + struct.pack("<H", 0x2000) + struct.pack("!HBB", 14, 0, 0)
TARGET = struct.pack("!HHHH", 0x7FFF, 0, 0x02AE, 0x2CD3)


def replies(poll):
    client = ArtNetClient()
    client.unicast_ip, client.broadcast_ip = "192.0.2.20", "192.0.2.255"
    node = ArtNetClientProtocol(client)
    node.transport = mock.Mock()
    try:
        node.datagram_received(poll, CONTROLLER)
    except struct.error as error:
        print(f"struct.error: {error}")
    return node.transport.sendto.call_count


short, long = replies(POLL), replies(POLL + TARGET)
print(f"replies to an ArtPoll of {len(POLL)} bytes: {short}")
print(f"replies to one of {len(POLL + TARGET)} bytes: {long}")
raise SystemExit(not (short == 1 and long == 0))
PYTHON
