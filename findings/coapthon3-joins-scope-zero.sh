#!/usr/bin/env bash
# CoAPthon3 1.0.2 (PyPI) as a multicast server for IPv6 joins ff00::fd. Scope 0 is reserved: nobody
# may send there, and hosts drop what comes for it. So a server made with multicast=True is not
# found by any client that asks all CoAP nodes, on the link or on the site. The same server answers
# by unicast, and over IPv4, where it joins the right group, by multicast too; nothing is logged.
# RFC 7252, section 12.8: the group is FF0X::FD, of which a node has to support the link-local
# FF02::FD and the site-local FF05::FD.
# RFC 4291, section 2.7: scope 0 is reserved, such packets must not be sent and are to be dropped.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Linux, root, iproute2, Python 3.11 and
# PyPI; the traffic stays in a network namespace of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check CoAPthon3==1.0.2
cd "$folder"
unshare --net sh -eu -c '
ip link set lo up
ip link add left type veth peer name right
for name in left right; do
    ip link set "$name" up
done
ip address add 192.0.2.1/24 dev left
ip address add 2001:db8::1/64 dev left nodad
ip route add 224.0.0.0/4 dev left
exec "$0" -W ignore::DeprecationWarning -' "$folder/venv/bin/python" <<'PYTHON'
import os
import socket
import struct
import sys
import threading

from coapthon.server.coap import CoAP

PORT = 5683
GET_CORE = bytes([0x51, 0x01, 0x12, 0x34, 0x77, 0xBB]) + b".well-known" + bytes([0x04]) + b"core"
CONTENT = 0x45
GROUPS = ("ff02::fd", "ff05::fd")


def joined():
    """The groups of all sockets at the interface, without those that the kernel joins itself."""
    with open("/proc/net/igmp6", encoding="ascii") as table:
        rows = [line.split() for line in table]
    groups = {socket.inet_ntop(socket.AF_INET6, bytes.fromhex(row[2])) for row in rows}
    return {group for group in groups if group.endswith("::fd")}


def is_answered(family, target):
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(1.0)
        if family == socket.AF_INET6:
            index = socket.if_nametoindex("left")
            client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        try:
            client.sendto(GET_CORE, (target, PORT))
            return client.recv(1500)[1] == CONTENT
        except OSError:
            return False


def serve(address):
    server = CoAP((address, PORT), multicast=True)
    threading.Thread(target=server.listen, args=(0.2,), daemon=True).start()
    return server


def join(server, group):
    index = socket.if_nametoindex("left")
    member = struct.pack("16si", socket.inet_pton(socket.AF_INET6, group), index)
    server._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)


serve("192.0.2.1")
ipv4 = is_answered(socket.AF_INET, "224.0.1.187")
server = serve("2001:db8::1")
groups = joined()
unicast = is_answered(socket.AF_INET6, "2001:db8::1")
ipv6 = {group: is_answered(socket.AF_INET6, group) for group in (*GROUPS, "ff00::fd")}
join(server, GROUPS[0])
helped = is_answered(socket.AF_INET6, GROUPS[0])
print("joined for IPv6:", *groups)
print("answered, IPv4:", {"224.0.1.187": ipv4})
print("answered, IPv6:", {"2001:db8::1": unicast, **ipv6})
print(f"answered once {GROUPS[0]} is joined by hand:", helped)
sys.stdout.flush()
is_so = groups == {"ff00::fd"} and unicast and not any(ipv6.values()) and ipv4 and helped
os._exit(not is_so)
PYTHON
