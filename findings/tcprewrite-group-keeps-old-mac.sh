#!/usr/bin/env bash
# tcprewrite 4.4.3 (Debian 12, tcpreplay) moves a capture to another multicast group (--dstipmap,
# --pnat) and leaves the destination MAC address, which is a function of the group, as it was. The
# replayed frames show up in tcpdump, whose interface is promiscuous, with the right group, but a
# network card whose host has joined that group filters by the MAC address and drops them, and a
# switch that snoops by MAC address sends them where the old group is wanted. --seed makes unicast
# addresses of the groups, under a multicast MAC. --enet-dmac sets one MAC for the whole capture.
# RFC 1112, section 6.4: the low 23 bits of the group go into 01-00-5e-00-00-00.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Debian 12 and Python 3.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get --quiet=2 --option APT::Sandbox::User=root download \
    tcpreplay=4.4.3-1 libdumbnet1=1.16.3-1
for package in *.deb; do
    dpkg-deb --extract "$package" root
done
python3 - <<'PYTHON'
import pathlib
import socket
import struct
import subprocess

LIBRARIES = {"LD_LIBRARY_PATH": "root/usr/lib/x86_64-linux-gnu"}


def group_mac(group):
    low = int.from_bytes(socket.inet_aton(group)) & 0x7FFFFF
    return (0x01005E000000 | low).to_bytes(6).hex(":")


def build_frame(group):
    ports = struct.pack("!HHHH", 5000, 5000, 108, 0)
    header = struct.pack("!BBHHHBB", 0x45, 0, 128, 0, 0, 1, socket.IPPROTO_UDP)
    addresses = socket.inet_aton("192.0.2.1") + socket.inet_aton(group)
    total = sum(struct.unpack("!10H", header + bytes(2) + addresses))
    checksum = struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
    ethernet = bytes.fromhex(group_mac(group).replace(":", "")) + bytes.fromhex("020000000001")
    return ethernet + b"\x08\0" + header + checksum + addresses + ports + bytes(100)


def rewrite(option):
    tool = ["root/usr/bin/tcprewrite", "--infile=old.pcap", "--outfile=new.pcap", option]
    subprocess.run(tool, env=LIBRARIES, check=True)
    frame = pathlib.Path("new.pcap").read_bytes()[40:]
    return socket.inet_ntoa(frame[30:34]), frame[:6].hex(":")


frame = build_frame("239.1.1.1")
pathlib.Path("old.pcap").write_bytes(
    struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    + struct.pack("<IIII", 1_700_000_000, 0, len(frame), len(frame))
    + frame
)
old_mac = group_mac("239.1.1.1")
rewritten = {
    option: rewrite(option)
    for option in ("--dstipmap=239.1.1.1/32:239.9.9.9/32", "--pnat=239.1.0.0/16:232.8.0.0/16")
}
for option, (group, mac) in rewritten.items():
    print(f"{option}: group {group}, MAC {mac}; that of the group: {group_mac(group)}")
unicast, mac = rewrite("--seed=42")
print(f"--seed=42: {unicast}, MAC {mac}")
raise SystemExit(
    list(rewritten.values()) != [("239.9.9.9", old_mac), ("232.8.1.1", old_mac)]
    or int(unicast.partition(".")[0]) >= 224
    or mac != old_mac
)
PYTHON
