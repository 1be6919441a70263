#!/usr/bin/env bash
# multicat 2.3 (Debian 12) forwards RTP with another payload than it received. Whatever arrives leaves
# as 1316 bytes, seven packets of a transport stream: what a payload lacks is filled with null packets
# (PID 8191), and a remainder that is no whole packet is cut off before. A low-bitrate stream of two
# packets in each datagram grows to three and a half times its rate. Audio (AES67) gets null packets
# in place of samples, under the header of the audio: it plays as noise, and no packet is missing.
# The README says that multicat "wants to remain agnostic of what is transported". RFC 3550, section
# 7.1: a translator leaves the data as it is, or changes the payload type along with the encoding.
# multicat(1) calls the 1316 of -m the "size of the payload chunk" and names no filling.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Debian 12, root, iproute2 and Python 3;
# the traffic stays in a network namespace of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get --quiet=2 --option APT::Sandbox::User=root download multicat=2.3-1
dpkg-deb --extract multicat_*.deb root
unshare --net sh -eu -c '
ip link set lo up
ip link set lo multicast on
ip address add 192.0.2.1/24 dev lo
ip route add 239.0.0.0/8 dev lo
exec python3 -' <<'PYTHON'
import socket
import struct
import subprocess

IN, OUT, PORT, ADDRESS = "239.1.1.1", "239.1.1.2", 5004, "192.0.2.1"
MULTICAT = "root/usr/bin/multicat"
FILLER = bytes.fromhex("471fff10")
TRANSPORT_STREAM, AUDIO = 33, 97


def rtp(number, payload_type, payload):
    return struct.pack("!BBHII", 0x80, payload_type, number, 0, 0x11223344) + payload


def exchange(packets):
    command = [MULTICAT, f"@{IN}:{PORT}/ifaddr={ADDRESS}", f"{OUT}:{PORT}/ifaddr={ADDRESS}"]
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind((OUT, PORT))
        membership = socket.inet_aton(OUT) + socket.inet_aton(ADDRESS)
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        receiver.settimeout(0.5)
        relay = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return [exchange_one(sender, receiver, packet) for packet in packets]
        finally:
            relay.terminate()
            relay.wait()


def exchange_one(sender, receiver, packet):
    for _ in range(20):
        sender.sendto(packet, (IN, PORT))
        try:
            while (got := receiver.recv(2048))[:4] != packet[:4]:
                pass
            return got
        except TimeoutError:
            continue
    raise SystemExit("multicat forwarded nothing")


media = bytes.fromhex("47010010") + bytes(range(184))
samples = bytes(range(256)) + bytes(32)
sent = [rtp(1, TRANSPORT_STREAM, media * 2), rtp(2, AUDIO, samples)]
received = exchange(sent)
for name, before, after in zip(("transport stream", "audio"), sent, received, strict=True):
    fillers = sum(after[at : at + 4] == FILLER for at in range(12, len(after), 188))
    print(f"{name}: {len(before)} bytes in, {len(after)} out, {fillers} null packets")
stream, audio = received
raise SystemExit(
    not (
        stream[:12] == sent[0][:12]
        and stream[12 : 12 + 2 * 188] == media * 2
        and all(stream[12 + at * 188 :].startswith(FILLER) for at in range(2, 7))
        and len(stream) == len(audio) == 12 + 1316
        and audio[:12] == sent[1][:12]
        and audio[12 + 188 :].startswith(FILLER)
    )
)
PYTHON
