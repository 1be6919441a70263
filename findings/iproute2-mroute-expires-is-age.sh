#!/usr/bin/env bash
# iproute2 6.1.0 (Debian 12) shows how long a multicast route has carried nothing: "Age" in the text,
# and the very same number as "expires" in JSON. It counts up while the route idles, jumps to 0 with
# each packet, and nothing ever expires: the kernel does not age these routes. Monitoring that takes
# the key by its name alarms about routes in use, whose "expires" is about 0, and trusts dead ones.
# Linux 6.1, net/ipv4/ipmr_base.c, mr_fill_mroute(): RTA_EXPIRES is the time since the last use;
# ip-mroute(8) explains neither.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Debian 12, Linux with multicast routing,
# root and Python 3; the traffic stays in a network namespace of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get --quiet=2 --option APT::Sandbox::User=root download iproute2=6.1.0-3
dpkg-deb --extract iproute2_*.deb root
PATH=$folder/root/bin:$folder/root/sbin:$PATH unshare --net sh -eu -c '
for name in in out; do
    ip link add "$name" type veth peer name "$name-peer"
    ip link set "$name" up
    ip link set "$name-peer" up
done
ip address add 192.0.2.1/24 dev in
ip address add 198.51.100.1/24 dev out
exec python3 -' <<'PYTHON'
import json
import re
import socket
import struct
import subprocess
import time

MRT_INIT, MRT_ADD_VIF, MRT_ADD_MFC, VIFF_USE_IFINDEX = 200, 202, 204, 8
SOURCE, GROUP = "192.0.2.9", "239.1.1.1"


def show(*options):
    command = ["ip", *options, "-statistics", "mroute", "show"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def read_expires():
    (route,) = json.loads(show("-json"))
    return route["expires"]


def send_through():
    header = struct.pack("!BBHHHBB", 0x45, 0, 28, 0, 0, 8, socket.IPPROTO_UDP)
    addresses = socket.inet_aton(SOURCE) + socket.inet_aton(GROUP)
    total = sum(struct.unpack("!10H", header + bytes(2) + addresses))
    checksum = struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
    ethernet = bytes.fromhex("01005e010101") + bytes.fromhex("020000000001") + b"\x08\0"
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("in-peer", 0))
        datagram = struct.pack("!HHHH", 5000, 5000, 8, 0)
        wire.send(ethernet + header + checksum + addresses + datagram)


with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP) as router:
    router.setsockopt(socket.IPPROTO_IP, MRT_INIT, 1)
    for number, name in enumerate(("in", "out")):
        index = struct.pack("=I", socket.if_nametoindex(name))
        interface = struct.pack("=HBBI4s4s", number, VIFF_USE_IFINDEX, 1, 0, index, bytes(4))
        router.setsockopt(socket.IPPROTO_IP, MRT_ADD_VIF, interface)
    route = socket.inet_aton(SOURCE) + socket.inet_aton(GROUP)
    route += struct.pack("=H32s2x3Ii", 0, bytes([0, 1]).ljust(32, b"\0"), 0, 0, 0, 0)
    router.setsockopt(socket.IPPROTO_IP, MRT_ADD_MFC, route)
    time.sleep(1)
    early = read_expires()
    time.sleep(1)
    late = read_expires()
    text = show()
    age = float(re.search(r"Age +([\d.]+)", text)[1])
    send_through()
    used = read_expires()
print(f'"expires" of an idle route, and a second later: {early}, {late}; as text: Age {age}')
print(f'"expires" after a packet: {used}')
raise SystemExit(not (early < late <= age < late + 1 and used < early))
PYTHON
