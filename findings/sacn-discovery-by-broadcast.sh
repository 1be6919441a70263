#!/usr/bin/env bash
# sacn 1.11.0 (PyPI) sends its universe discovery packets to the limited broadcast address. Receivers
# join the multicast group of the discovery universe, 64214, and never see them: a sender that uses
# this package is missing from the lists of other programs, and every host of the link gets packets
# that only sACN controllers asked for.
# ANSI E1.31: discovery uses E131_DISCOVERY_UNIVERSE, 64214 (appendix A), and the last two bytes of a
# group are the number of its universe, so its group is 239.255.250.214.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sacn==1.11.0
"$folder/venv/bin/python" - <<'PYTHON'
from unittest import mock

from sacn.messages.data_packet import calculate_multicast_addr
from sacn.sending.sender_handler import SenderHandler
from sacn.sending.sender_socket_udp import SenderSocketUDP

DISCOVERY_UNIVERSE = 64214

with mock.patch("socket.socket") as opened:
    sender = SenderHandler((1,) * 16, "console", {1: object()}, "127.0.0.1", 0, 30)
    assert isinstance(sender.socket, SenderSocketUDP)
    sender.send_universe_discovery_packets()
(packet, (destination, port)), _ = opened.return_value.sendto.call_args
expected = calculate_multicast_addr(DISCOVERY_UNIVERSE)
print(f"a discovery packet of {len(packet)} bytes goes to {destination} port {port}")
print(f"its group is {expected}")
raise SystemExit(not (destination == "<broadcast>" and expected == "239.255.250.214"))
PYTHON
