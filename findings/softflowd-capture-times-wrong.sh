#!/usr/bin/env bash
# softflowd 1.1.0 (Debian 12) reads a capture file with -r and exports its flows with the times of
# another month or year, often in the future. It writes them as milliseconds since its own start, in
# 32 bits without a sign; packets from before the start wrap, so the flows end up anywhere within
# 49.7 days around now. Nothing warns, and the manual tells nothing of it under -r. The times are
# right with -a, another entry of the manual, and with absolute ones (-A milli).
# RFC 3954, section 8: FIRST_SWITCHED is the uptime at the first packet, which no packet from before
# the boot can have.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Debian 12, root, iproute2 and Python 3;
# the traffic stays in a network namespace of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get --quiet=2 --option APT::Sandbox::User=root download \
    softflowd=1.1.0-1+b1 nfdump=1.7.1-2+deb12u1
for package in *.deb; do
    dpkg-deb --extract "$package" root
done
unshare --net sh -eu -c 'ip link set lo up && exec python3 -' <<'PYTHON'
import datetime
import os
import re
import socket
import struct
import subprocess
import time

TAKEN = datetime.datetime(2023, 11, 14, 22, 13, 20)
COLLECTOR, DAY = 2055, datetime.timedelta(days=1)
TOOLS = {"LD_LIBRARY_PATH": "root/usr/lib/x86_64-linux-gnu:root/usr/lib", "TZ": "UTC"}


def build_frame():
    ports = struct.pack("!HHHH", 5000, 5000, 108, 0)
    header = struct.pack("!BBHHHBB", 0x45, 0, 128, 0, 0, 1, socket.IPPROTO_UDP)
    addresses = socket.inet_aton("192.0.2.1") + socket.inet_aton("239.1.1.1")
    total = sum(struct.unpack("!10H", header + bytes(2) + addresses))
    checksum = struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
    ethernet = bytes.fromhex("01005e010101") + bytes.fromhex("020000000001") + b"\x08\0"
    return ethernet + header + checksum + addresses + ports + bytes(100)


def unread_bytes(port):
    with open("/proc/net/udp") as sockets:
        (socket_line,) = [line.split() for line in sockets if f":{port:04X} " in line]
    return int(socket_line[4].partition(":")[2], 16)


def first_packet_time(name, *options):
    os.makedirs(name)
    command = ["root/usr/bin/nfcapd", "-w", name, "-b", "127.0.0.1", "-p", str(COLLECTOR)]
    collector = subprocess.Popen(command, env=TOOLS, stderr=subprocess.PIPE, text=True)
    while "Startup nfcapd." not in collector.stderr.readline():
        assert collector.poll() is None
    command = ["root/usr/sbin/softflowd", "-r", "flow.pcap", "-v", "9", *options]
    subprocess.run(
        [*command, "-n", f"127.0.0.1:{COLLECTOR}"], check=True, capture_output=True
    )
    while unread_bytes(COLLECTOR):
        time.sleep(0.01)
    collector.terminate()
    assert "Flows: 1," in collector.stderr.read()
    report = subprocess.run(
        ["root/usr/bin/nfdump", "-R", name], env=TOOLS, check=True, capture_output=True, text=True
    )
    found = re.search(r"Time window: (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", report.stdout)
    read = found and datetime.datetime.fromisoformat(found[1])
    print(f"taken {TAKEN}; softflowd {' '.join(['-r', *options])}: {read}")
    return read


with open("flow.pcap", "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    seconds = int(TAKEN.replace(tzinfo=datetime.UTC).timestamp())
    for step in range(2):
        frame = build_frame()
        file.write(struct.pack("<IIII", seconds + step, 0, len(frame), len(frame)) + frame)
plain = first_packet_time("plain")
adjusted = first_packet_time("adjusted", "-a")
absolute = first_packet_time("absolute", "-A", "milli")
raise SystemExit(not (abs(plain - TAKEN) > DAY and adjusted == absolute == TAKEN))
PYTHON
