#!/usr/bin/env bash
# multicast-expert 1.6.0 (PyPI) opens a receiver for one interface, and with IPv6 it receives what
# arrives at others as well, as soon as any program of the host has joined the group there. It binds
# to the group and names the interface in the address, which Linux heeds for link-local groups only;
# and a socket's own memberships are compared by group, not by interface, for IPv6. The same receiver
# for IPv4 gets the datagrams of its interface only.
# Linux 6.1, net/ipv6/mcast.c, inet6_mc_check(); ipv6(7).
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Linux, root, iproute2, Python 3.11, a C
# compiler and PyPI; the traffic stays in a network namespace of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check multicast-expert==1.6.0
unshare --net sh -eu -c '
ip link set lo up
ip link add left type veth peer name right
for name in left right; do
    ip link set "$name" up
done
ip address add 192.0.2.1/24 dev left
ip address add 198.51.100.1/24 dev right
ip address add 2001:db8:1::1/64 dev left nodad
ip address add 2001:db8:2::1/64 dev right nodad
exec "$0" -' "$folder/venv/bin/python" <<'PYTHON'
import socket
import struct

from multicast_expert import McastRxSocket

PORT = 5001
GROUPS = {socket.AF_INET: "239.1.1.1", socket.AF_INET6: "ff15::1"}


def join_on_right(other, family):
    index = socket.if_nametoindex("right")
    group = socket.inet_pton(family, GROUPS[family])
    if family == socket.AF_INET:
        other.setsockopt(
            socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("4s4si", group, bytes(4), index)
        )
    else:
        other.setsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, struct.pack("16si", group, index)
        )


def send_on_right(family):
    index = socket.if_nametoindex("right")
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        if family == socket.AF_INET:
            option = struct.pack("4s4si", bytes(4), bytes(4), index)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, option)
        else:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sender.sendto(b"of the right link", (GROUPS[family], PORT))


def hears_the_other_link(family):
    group = GROUPS[family]
    with McastRxSocket(family, [group], PORT, iface="left", timeout=1.0) as receiver:
        with socket.socket(family, socket.SOCK_DGRAM) as other:
            join_on_right(other, family)
            send_on_right(family)
            return receiver.recv() is not None


ipv4, ipv6 = hears_the_other_link(socket.AF_INET), hears_the_other_link(socket.AF_INET6)
print("the receiver of one interface hears the other, IPv4:", ipv4)
print("the receiver of one interface hears the other, IPv6:", ipv6)
raise SystemExit(not (ipv6 and not ipv4))
PYTHON
