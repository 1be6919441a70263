r"""Merge two feeds of the same RTP packets, cut each in turn, and see that nothing is missing.

    python examples/cut_feeds.py

With --listen the packets are those of another program, and a player receives the merged output:

    python examples/cut_feeds.py --listen 5004 --cut 0.6 &
    ffmpeg -v warning -i 'rtp://239.2.0.1:6001?localaddr=127.0.0.1' -f null - &
    ffmpeg -v error -re -f lavfi -i testsrc2 -t 30 -c:v mpeg2video -b:v 800k -f rtp_mpegts \
        'rtp://127.0.0.1:5004?pkt_size=1328'

ffmpeg reports frames without dimensions at its start, until the first whole picture, and no error
after that.

Everything runs over loopback, without rights.
"""

import argparse
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import mcr

FEEDS = ("239.1.1.1", "239.1.1.2")
OUTPUT = ("239.2.0.1", 6001)
RULE = (
    f"{FEEDS[0]}%lo:5001 + {FEEDS[1]}%lo:5001,merge=rtp,reorder=20ms to {OUTPUT[0]}%lo:{OUTPUT[1]}"
)
RATE_PPS = 500
LOOPBACK = socket.inet_aton("127.0.0.1")


class Splitter:
    """Sends each packet on both feeds, unless one of them is cut."""

    def __init__(self) -> None:
        self.cut: int | None = None
        self.sent = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, LOOPBACK)

    def send(self, packet: bytes) -> None:
        """Send one packet."""
        for number, group in enumerate(FEEDS):
            if number != self.cut:
                self._socket.sendto(packet, (group, 5001))
        self.sent += 1


def generate(splitter: Splitter, ended: threading.Event) -> None:
    """Send numbered packets at a steady rate."""
    begin_s = time.monotonic()
    number = 0
    while not ended.wait(max(0.0, begin_s + number / RATE_PPS - time.monotonic())):
        header = struct.pack(">BBHII", 0x80, 33, number % 65536, number, 1)
        splitter.send(header + bytes(1316))
        number += 1


def pass_on(splitter: Splitter, port: int, ended: threading.Event) -> None:
    """Send the packets of another program."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        source.bind(("127.0.0.1", port))
        source.settimeout(0.1)
        while not ended.is_set():
            try:
                splitter.send(source.recv(65536))
            except TimeoutError:
                continue


def open_output() -> socket.socket:
    """A receiver of the merged feed."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    receiver.bind(OUTPUT)
    request = socket.inet_aton(OUTPUT[0]) + LOOPBACK
    receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    receiver.settimeout(1)
    return receiver


def receive(receiver: socket.socket, ended: threading.Event) -> list[bytes]:
    """All packets that arrive until the end."""
    packets = list[bytes]()
    while True:
        try:
            packets.append(receiver.recv(65536))
        except TimeoutError:
            if ended.is_set():
                return packets


def main() -> int:
    """Relay, cut each feed in turn, and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cuts", type=int, default=10, help="how often each feed is cut")
    parser.add_argument("--cut", type=float, default=0.2, help="seconds of each cut")
    parser.add_argument("--listen", type=int, help="take RTP packets from this port of 127.0.0.1")
    arguments = parser.parse_args()
    splitter, ended = Splitter(), threading.Event()
    with (
        mcr.Relay(RULE, ingress="udp") as relay,
        open_output() as receiver,
        ThreadPoolExecutor() as threads,
    ):
        received = threads.submit(receive, receiver, ended)
        if arguments.listen is None:
            threads.submit(generate, splitter, ended)
        else:
            threads.submit(pass_on, splitter, arguments.listen, ended)
        while not splitter.sent:
            time.sleep(0.05)
        for number in range(2 * arguments.cuts):
            time.sleep(arguments.cut)
            splitter.cut = number % 2
            time.sleep(arguments.cut)
            splitter.cut = None
        ended.set()
        count = len(received.result())
        (rule,) = relay.stats().rules
    assert rule.merge is not None
    for number, leg in enumerate(rule.merge.legs, 1):
        print(f"feed {number}: received {leg.received}, missing {leg.missing}")
    print(f"sent {splitter.sent}, received {count}, lost on both {rule.merge.lost}")
    return 0 if count == splitter.sent else 1


if __name__ == "__main__":
    sys.exit(main())
