#!/usr/bin/env bash
# tcpdump 4.99.3 with libpcap 1.10.3 (Debian 12) shows no MLD at all to who asks for "icmp6", although
# MLD is ICMPv6. The filter compares the first next-header field; a query or a report always has a
# hop-by-hop header before ICMPv6. Neighbour discovery comes through, so the filter seems to work, and
# the host seems never to join. "ip6 protochain 58" finds both; "icmp6[icmp6type]" is blind as well.
# RFC 3810, section 5: every MLD message has a router alert option in a hop-by-hop header.
# pcap-filter(7): "ip6 proto" does not chase the header chain, and "icmp6" stands for it.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Debian 12, Linux with IPv6, root,
# iproute2 and Python 3; the traffic stays in a network namespace of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get --quiet=2 --option APT::Sandbox::User=root download \
    tcpdump=4.99.3-1 libpcap0.8=1.10.3-1
for package in *.deb; do
    dpkg-deb --extract "$package" root
done
unshare --net sh -eu -c '
ip link add left type veth peer name right
ip link set right up
exec python3 -' <<'PYTHON'
import os
import pathlib
import socket
import struct
import subprocess
import time

LIBRARIES = os.environ | {"LD_LIBRARY_PATH": "root/usr/lib/x86_64-linux-gnu"}
TCPDUMP = ["root/usr/bin/tcpdump", "-n", "--no-promiscuous-mode"]
HOP_BY_HOP, ICMPV6, REPORT, SOLICITATION = 0, 58, 143, 135


def record_a_join():
    """What a host sends whose link comes up, and that joins a group."""
    frames = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD)) as wire:
        wire.bind(("right", 0))
        wire.settimeout(0.2)
        subprocess.run(["ip", "link", "set", "left", "up"], check=True)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as member:
            group = socket.inet_pton(socket.AF_INET6, "ff15::1")
            request = group + struct.pack("=I", socket.if_nametoindex("left"))
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
            end = time.monotonic() + 4
            while time.monotonic() < end:
                try:
                    frames.append(wire.recv(2048))
                except TimeoutError:
                    continue
    return frames


def write_capture(frames):
    with open("join.pcap", "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for frame in frames:
            file.write(struct.pack("<IIII", 1_700_000_000, 0, len(frame), len(frame)) + frame)


def count(*words):
    command = [*TCPDUMP, "-r", "join.pcap", *words]
    lines = subprocess.run(command, env=LIBRARIES, check=True, capture_output=True, text=True)
    return len(lines.stdout.splitlines())


frames = record_a_join()
write_capture(frames)
reports = [f for f in frames if f[20] == HOP_BY_HOP and f[54] == ICMPV6 and f[62] == REPORT]
solicitations = [f for f in frames if f[20] == ICMPV6 and f[54] == SOLICITATION]
plain = len([f for f in frames if f[20] == ICMPV6])
print(f"on the link: {len(reports)} MLD reports, {plain} other ICMPv6 messages")
found = {words: count(words) for words in ("icmp6", f"icmp6[icmp6type] = {REPORT}")}
chased = count("ip6 protochain 58")
print("tcpdump finds:", found | {"ip6 protochain 58": chased})
raise SystemExit(
    not (reports and solicitations)
    or list(found.values()) != [plain, 0]
    or chased != len(reports) + plain
)
PYTHON
