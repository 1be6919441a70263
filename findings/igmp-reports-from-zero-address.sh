#!/usr/bin/env bash
# igmp 1.0.4 (PyPI), the router's side of IGMPv2, ignores each message from 0.0.0.0. A host sends its
# reports from there while it has no address yet, and a switch that suppresses or proxies reports
# does so always. A router with this package then forwards no group to that link.
# RFC 3376, section 4.2.13: routers must accept a report from 0.0.0.0. RFC 4541, section 2.1.1:
# switches send their reports from there, and it must not matter to the routers.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11, a C compiler and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check igmp==1.0.4 netifaces==0.11.0
"$folder/venv/bin/python" - <<'PYTHON'
import socket
import struct
from unittest import mock

from igmp.igmp2.igmp_globals import VERSION_2_MEMBERSHIP_REPORT
from igmp.InterfaceIGMP import InterfaceIGMP
from igmp.packet.PacketIGMPHeader import PacketIGMPHeader

GROUP, ROUTER_ALERT = "239.1.1.1", b"\x94\x04\0\0"


def is_heard(source):
    report = PacketIGMPHeader(VERSION_2_MEMBERSHIP_REPORT, 0, GROUP).bytes()
    header = struct.pack("!BBHHHBBH", 0x46, 0xC0, 24 + len(report), 0, 0, 1, 2, 0)
    header += socket.inet_aton(source) + socket.inet_aton(GROUP) + ROUTER_ALERT
    interface = object.__new__(InterfaceIGMP)
    interface.interface_state = mock.Mock()
    interface._receive(bytes(14) + header + report, None)
    return interface.interface_state.receive_v2_membership_report.called


addressed, unaddressed = is_heard("192.0.2.7"), is_heard("0.0.0.0")
print("a report from 192.0.2.7 is heard:", addressed)
print("a report from 0.0.0.0 is heard:", unaddressed)
raise SystemExit(not (addressed and not unaddressed))
PYTHON
