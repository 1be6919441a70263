"""`mcr top` in front of a real daemon with traffic."""

import asyncio
import socket
from contextlib import closing

from tests.topology.daemons import Daemon, serving

from mcr.client.aio import AsyncClient
from mcr.top.app import TopApp
from mcr.top.overview_screen import RuleChoice
from mcr.top.reader import DaemonReader

from .screens import shows

COUNT, SIZE = 300, 100
GROUP = "239.1.97.1"


def received(receiver: socket.socket, sender: socket.socket) -> int:
    """Send the datagrams one by one; return how many have arrived at the receiver."""
    for number in range(COUNT):
        sender.sendto(number.to_bytes(4) * (SIZE // 4), (GROUP, 5001))
        assert receiver.recv(2000) == number.to_bytes(4) * (SIZE // 4)
    return number + 1


def test_the_screen_agrees_with_the_receiver() -> None:
    """Through the socket of observers: what was sent to the receiver, and by whom."""

    async def watch(daemon: Daemon, receiver: socket.socket, sender: socket.socket) -> None:
        client = AsyncClient(daemon.socket.with_name("mcr-observers.sock"))
        app = TopApp(DaemonReader(client, ["watched"]), RuleChoice())
        async with app.run_test(size=(80, 24)) as pilot:
            await shows(app, pilot, "joined")
            count = await asyncio.to_thread(received, receiver, sender)
            await shows(app, pilot, "flowing")
            await pilot.press("enter")
            source = f"127.0.0.1:{sender.getsockname()[1]}"
            found = await shows(app, pilot, f"matched {count} (30.0 kB)", source, f"{GROUP}:5001")
            sent = next(line for line in found.splitlines() if line.startswith("127.0.0.1:"))
            assert int(sent.split()[2]) == count
            await asyncio.to_thread(daemon.end)
            await shows(app, pilot, "no answer for", f"matched {count}")

    with (
        serving(None, "--ingress", "udp", "--flows", "--observers", "sys") as daemon,
        closing(receiver_socket()) as receiver,
        closing(sender_socket()) as sender,
    ):
        with daemon.client() as client:
            port = receiver.getsockname()[1]
            client.add_rule(f"{GROUP}%lo:5001,name=watched to 127.0.0.1:{port}")
        asyncio.run(watch(daemon, receiver, sender))


def receiver_socket() -> socket.socket:
    """A socket at any port of the loopback address."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(20)
    return receiver


def sender_socket() -> socket.socket:
    """A socket that sends to groups on loopback."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    loopback = socket.inet_aton("127.0.0.1")
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
    sender.bind(("127.0.0.1", 0))
    return sender
