#!/usr/bin/env bash
# softflowd 1.1.0 (Debian 12) writes into an IPFIX message how many data records it has sent with
# this one, not before it. A collector that adds the records of a message to its number expects the
# next one elsewhere whenever two messages differ in size: nfcapd 1.7.1 of the same Debian reports
# sequence errors for an export of which every record arrived. As NetFlow 5 the same flows give none.
# RFC 7011, section 10.3.2: over UDP the number is "the total number of IPFIX Data Records sent for
# the Transport Session prior to the receipt of this IPFIX Message".
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
import os
import re
import socket
import struct
import subprocess
import time

FLOWS, FIRST_DATA_SET, COLLECTOR, READER = 100, 1024, 2055, 2056
LIBRARIES = {"LD_LIBRARY_PATH": "root/usr/lib/x86_64-linux-gnu:root/usr/lib"}


def build_frame(group):
    payload = bytes(100)
    ports = struct.pack("!HHHH", 5000, 5000, 8 + len(payload), 0)
    header = struct.pack("!BBHHHBB", 0x45, 0, 128, 0, 0, 1, socket.IPPROTO_UDP)
    addresses = socket.inet_aton("192.0.2.1") + socket.inet_aton(group)
    total = sum(struct.unpack("!10H", header + bytes(2) + addresses))
    checksum = struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
    ethernet = bytes.fromhex("01005e010100") + bytes.fromhex("020000000001") + b"\x08\0"
    return ethernet + header + checksum + addresses + ports + payload


with open("flows.pcap", "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    for index in range(FLOWS):
        frame = build_frame(f"239.1.1.{index}")
        file.write(struct.pack("<IIII", 1_700_000_000, index, len(frame), len(frame)) + frame)


def export(version, port):
    command = ["root/usr/sbin/softflowd", "-r", "flows.pcap", "-v", version]
    command += ["-n", f"127.0.0.1:{port}"]
    subprocess.run(command, check=True, capture_output=True)


def unread_bytes(port):
    with open("/proc/net/udp") as sockets:
        (socket_line,) = [line.split() for line in sockets if f":{port:04X} " in line]
    return int(socket_line[4].partition(":")[2], 16)


def collect(version):
    os.makedirs(f"collected-{version}")
    command = ["root/usr/bin/nfcapd", "-w", f"collected-{version}", "-b", "127.0.0.1"]
    collector = subprocess.Popen(
        [*command, "-p", str(COLLECTOR)], env=LIBRARIES, stderr=subprocess.PIPE, text=True
    )
    while "Startup nfcapd." not in collector.stderr.readline():
        assert collector.poll() is None
    export(version, COLLECTOR)
    while unread_bytes(COLLECTOR):
        time.sleep(0.01)
    collector.terminate()
    report = collector.stderr.read()
    return [int(number) for number in re.search(r"Flows: (\d+).*Errors: (\d+)", report).groups()]


def read_sequence():
    numbers = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reader:
        reader.bind(("127.0.0.1", READER))
        reader.settimeout(1)
        export("10", READER)
        while sum(records for _, records in numbers) < FLOWS:
            message = reader.recv(2048)
            (number,) = struct.unpack_from("!I", message, 8)
            start, flows = 16, 0
            while start < len(message):
                kind, length = struct.unpack_from("!HH", message, start)
                flows += (length - 4) // 42 if kind == FIRST_DATA_SET else 0
                start += length
            numbers.append((number, flows))
    return numbers


numbers = read_sequence()
netflow, ipfix = collect("5"), collect("10")
print("sequence number and flows of each IPFIX message:", numbers)
print("flows and sequence errors that nfcapd counts, NetFlow 5:", netflow, "IPFIX:", ipfix)
after = [sum(flows for _, flows in numbers[: index + 1]) for index in range(len(numbers))]
raise SystemExit(
    [number for number, _ in numbers] != after or netflow != [FLOWS, 0] or ipfix != [FLOWS, 2]
)
PYTHON
