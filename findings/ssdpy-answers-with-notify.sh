#!/usr/bin/env bash
# ssdpy 0.4.1 (PyPI) answers a search with an announcement: "NOTIFY * HTTP/1.1" sent to who asked,
# in place of a response, as its documentation has it. Its own client reads headers and does not
# look at the first line, so a try with both sides finds the device. Another control point takes it
# for a request: ssdp 1.3.1 (PyPI), a package for both sides too, calls request_received() and not
# response_received(), and no search ever finds the device. It has no other way to be found, as the
# server announces nothing by itself.
# UPnP Device Architecture 1.1, section 1.3.3: the response to a search begins with "HTTP/1.1 200 OK"
# and has ST, the target that was searched for; section 1.2.2: NOTIFY is what goes to the group.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Linux, root, iproute2, Python 3.11 and
# PyPI; the traffic stays in a network namespace of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ssdpy==0.4.1 ssdp==1.3.1
cd "$folder"
unshare --net sh -eu -c '
ip link set lo up
ip route add 239.0.0.0/8 dev lo
exec venv/bin/python -' <<'PYTHON'
import socket
import threading

from ssdp.aio import SimpleServiceDiscoveryProtocol
from ssdp.messages import SSDPRequest
from ssdpy import SSDPClient, SSDPServer

LOOPBACK, GROUP, PORT, TARGET = "127.0.0.1", "239.255.255.250", 1900, "urn:example:device:x:1"
SEARCH = SSDPRequest(
    "M-SEARCH",
    headers={"HOST": f"{GROUP}:{PORT}", "MAN": '"ssdp:discover"', "MX": "1", "ST": TARGET},
)


class ControlPoint(SimpleServiceDiscoveryProtocol):
    def __init__(self):
        self.requests, self.responses = [], []

    def request_received(self, request, addr):
        self.requests.append(request)

    def response_received(self, response, addr):
        self.responses.append(response)


server = SSDPServer("uuid:1", device_type=TARGET, address=LOOPBACK, location="http://192.0.2.1/")
threading.Thread(target=server.serve_forever, daemon=True).start()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as searcher:
    searcher.bind((LOOPBACK, 0))
    searcher.settimeout(5)
    searcher.sendto(bytes(SEARCH), (GROUP, PORT))
    answer = searcher.recv(2048)
other = ControlPoint()
other.datagram_received(answer, (LOOPBACK, PORT))
own = SSDPClient(address=LOOPBACK, timeout=1).m_search(TARGET)
with_target = b"\r\nST:" in answer.upper()
first_line = answer.split(b"\r\n")[0].decode()
print(f"answer to a search: {first_line}; with ST: {with_target}")
print(f"devices that ssdpy finds: {len(own)}")
print(f"responses that ssdp sees: {len(other.responses)}, requests: {len(other.requests)}")
raise SystemExit(
    not (
        first_line == "NOTIFY * HTTP/1.1"
        and not with_target
        and len(own) == 1
        and (len(other.responses), len(other.requests)) == (0, 1)
    )
)
PYTHON
