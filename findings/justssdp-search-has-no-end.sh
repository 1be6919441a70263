#!/usr/bin/env bash
# justssdp 0.2.0 (PyPI) ends neither its searches nor its answers: the last header is followed by one
# line break, not by an empty line. Its two sides understand each other, so a try at home works. A
# device or a control point that reads the message as HTTP takes it for an unfinished one and stays
# silent, although the packet looks complete in a capture.
# UPnP Device Architecture 1.1, section 1.3.2: an M-SEARCH has no body, but "the message shall have a
# blank line following the last header field"; HTTP (RFC 9112, section 2.1) says so of any message.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Linux, root, iproute2, Python 3.11 and
# PyPI; the traffic stays in a network namespace of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    justssdp==0.2.0 asyncio-dgram==3.0.0
unshare --net sh -eu -c '
ip link set lo up
ip link add left type veth peer name right
ip link set left up
ip link set right up
ip address add 192.0.2.1/24 dev left
ip route add default dev left
exec "$0" -' "$folder/venv/bin/python" <<'PYTHON'
import asyncio
import socket

from justssdp.search import upnp_search_client
from justssdp.server import SSDPServer

DEVICE, IPV4, SSDP_PORT = "urn:example-org:device:Receiver:1", 0x0800, 1900
UDN = "6f1e4c1a-6c0b-4f0e-9a55-0b8f3c1d2e4f"


async def search():
    server = SSDPServer(UDN, DEVICE, "http://192.0.2.1/")
    async with server.run() as ready:
        await ready.wait()
        found = upnp_search_client(upnp_st=DEVICE, upnp_mx=1, timeout=3)
        answer = await anext(found)
        await found.aclose()
    return answer[1].encode()


with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(IPV4)) as wire:
    wire.settimeout(1)
    answer = asyncio.run(search())
    query = b""
    while not query.startswith(b"M-SEARCH"):
        query = wire.recv(2048)[28:]
for name, message in (("search", query), ("answer", answer)):
    print(f"end of the {name}: {message[-24:]}")
endings = [message.endswith(b"\r\n\r\n") for message in (query, answer)]
has_headers = query.startswith(b"M-SEARCH * HTTP/1.1\r\n") and answer.startswith(b"HTTP/1.1 200")
raise SystemExit(not (has_headers and endings == [False, False]))
PYTHON
