"""Network namespaces, links between them, and entering one from the calling thread.

Owns names, creation and removal. Knows nothing of mcr and nothing of traffic.
"""

import atexit
import contextlib
import ctypes
import itertools
import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .offloads import switch

CLONE_NEWNET = 0x40000000
NETNS_DIRECTORY = Path("/run/netns")
_NAME = re.compile(r"mcrt(\d+)x\d+")
_counter = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


_RUN_S = 90.0
"""For one lock all changes of interfaces on a machine wait, also those of other programs."""


def run(*command: str, given: str | None = None) -> str:
    """Run a command with this input, return its output; a failure shows what the command said."""
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, timeout=_RUN_S
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def setns(descriptor: int) -> None:
    """Move the calling thread into a network namespace (Python 3.11 has no os.setns)."""
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def remove_leftovers() -> None:
    """Remove the namespaces of test processes that died without doing so."""
    if not NETNS_DIRECTORY.is_dir():
        return
    for entry in NETNS_DIRECTORY.iterdir():
        match = _NAME.fullmatch(entry.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            with contextlib.suppress(RuntimeError):
                run("ip", "netns", "del", entry.name)


@dataclass
class Namespace:
    """One network namespace; ``with namespace:`` puts the calling thread into it."""

    name: str
    _outer: list[int] = field(default_factory=list)

    @classmethod
    def create(cls) -> Self:
        """Make a namespace with a name of its own, loopback up, nothing that delays traffic."""
        namespace = cls(f"mcrt{os.getpid()}x{next(_counter)}")
        run("ip", "netns", "add", namespace.name)
        run("ip", "-n", namespace.name, "link", "set", "lo", "up")
        for key in ("all", "default"):
            namespace.sysctl(f"net.ipv4.conf.{key}.rp_filter", 0)
            namespace.sysctl(f"net.ipv6.conf.{key}.accept_dad", 0)
        namespace.sysctl("net.ipv4.icmp_ratelimit", 0)  # Else only the first refusal is told.
        return namespace

    def remove(self) -> None:
        """Remove it; its interfaces go with it."""
        with contextlib.suppress(RuntimeError):
            run("ip", "netns", "del", self.name)

    def __enter__(self) -> Self:
        """Enter the namespace; nesting is allowed."""
        self._outer.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        inner = os.open(NETNS_DIRECTORY / self.name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(inner)
        finally:
            os.close(inner)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Go back to where the calling thread was."""
        outer = self._outer.pop()
        try:
            setns(outer)
        finally:
            os.close(outer)

    def run(self, *command: str) -> str:
        """Run a command inside."""
        return run("ip", "netns", "exec", self.name, *command)

    def command(self, *command: str) -> list[str]:
        """The same as an argument list for subprocess; the process keeps the given pid."""
        return ["ip", "netns", "exec", self.name, *command]

    def ip(self, *arguments: str) -> str:
        """Run ``ip`` on this namespace."""
        return run("ip", "-n", self.name, *arguments)

    def ifindex(self, interface: str) -> int:
        """The index of an interface."""
        with self:
            return socket.if_nametoindex(interface)

    def mac(self, interface: str) -> bytes:
        """The hardware address of an interface."""
        link = json.loads(self.ip("-j", "link", "show", "dev", interface))[0]
        return bytes.fromhex(link["address"].replace(":", ""))

    def sysctl(self, name: str, value: int) -> None:
        """Set a network sysctl of this namespace (/proc/sys follows the calling thread)."""
        with self:
            Path("/proc/sys", *name.split(".")).write_text(f"{value}\n")

    def proc_net(self, name: str) -> str:
        """The text of /proc/net/NAME as a process inside sees it."""
        with self:
            return Path("/proc/thread-self/net", name).read_text()

    def address(self, interface: str, *addresses: str) -> None:
        """Assign addresses with prefix lengths; IPv6 ones are usable at once."""
        lines = [
            f"addr add {address} dev {interface}{' nodad' if ':' in address else ''}\n"
            for address in addresses
        ]
        run("ip", "-n", self.name, "-batch", "-", given="".join(lines))

    def offload(self, interface: str, **features: bool) -> None:
        """Switch device features, e.g. ``gro=True, tx_udp_segmentation=False``."""
        with self:
            switch(interface, {name.replace("_", "-"): on for name, on in features.items()})

    def set_up(self, interface: str, *, up: bool) -> None:
        """Bring an interface up or down."""
        self.ip("link", "set", interface, "up" if up else "down")

    def reshape(self, interface: str, *arguments: str) -> None:
        """Change the parameters of a queueing discipline; what it holds stays in it."""
        run("tc", "-n", self.name, "qdisc", "change", "dev", interface, "root", *arguments)

    @contextlib.contextmanager
    def promiscuous(self, interface: str) -> Iterator[None]:
        """Have an interface take frames for any MAC address for the time of the block."""
        self.ip("link", "set", interface, "promisc", "on")
        try:
            yield
        finally:
            self.ip("link", "set", interface, "promisc", "off")

    @contextlib.contextmanager
    def down(self, interface: str) -> Iterator[None]:
        """Keep an interface down for the time of the block: its peer loses the carrier."""
        self.set_up(interface, up=False)
        try:
            yield
        finally:
            self.set_up(interface, up=True)

    def frames(self, interface: str) -> tuple[int, int]:
        """How many frames an interface has received and sent; a super-frame is one."""
        link = json.loads(self.ip("-j", "-s", "link", "show", "dev", interface))[0]
        return link["stats64"]["rx"]["packets"], link["stats64"]["tx"]["packets"]

    @contextlib.contextmanager
    def gathering(self, interface: str) -> Iterator[None]:
        """Have GRO gather frames of an interface for 20 ms, as a busy card lets it."""
        directory = f"/sys/class/net/{interface}"

        def gather(nanoseconds: int, polls: int) -> None:
            timeout, deferrals = (
                f"{directory}/gro_flush_timeout",
                f"{directory}/napi_defer_hard_irqs",
            )
            self.run("sh", "-c", f"echo {nanoseconds} > {timeout}; echo {polls} > {deferrals}")

        gather(20_000_000, 50)
        try:
            yield
        finally:
            gather(0, 0)

    def ip_packets(self) -> int:
        """How many IPv4 packets the host has received; what GRO merged is one."""
        names, values = [
            line.split() for line in self.proc_net("snmp").splitlines() if line.startswith("Ip:")
        ]
        return int(values[names.index("InReceives")])

    def qdisc(self, interface: str) -> dict[str, Any]:
        """Statistics of the root queueing discipline: drops, backlog, bytes, packets."""
        found = run("tc", "-n", self.name, "-s", "-j", "qdisc", "show", "dev", interface, "root")
        first: dict[str, Any] = json.loads(found)[0]
        return first

    def queue(self, interface: str, *, on: bool = True) -> None:
        """Give an interface a plain queue, or take it away."""
        discipline = ("pfifo", "limit", "20000") if on else ("noqueue",)
        run(
            *("tc", "-n", self.name, "qdisc", "replace", "dev", interface, "root"),
            *discipline,
        )

    @contextlib.contextmanager
    def shaped(self, interface: str, *arguments: str) -> Iterator[None]:
        """Put a queueing discipline in front of an interface for the time of the block."""
        run("tc", "-n", self.name, "qdisc", "replace", "dev", interface, "root", *arguments)
        try:
            yield
        finally:
            self.queue(interface)


class Net:
    """A set of namespaces and links that removes itself, also when the process ends badly."""

    def __init__(self) -> None:
        """Start empty."""
        self._namespaces: list[Namespace] = []
        self._owner = os.getpid()
        atexit.register(self.close)

    def namespace(self) -> Namespace:
        """Add a namespace."""
        namespace = Namespace.create()
        self._namespaces.append(namespace)
        return namespace

    def link(
        self, near: Namespace, near_name: str, far: Namespace, far_name: str, *, mtu: int = 1500
    ) -> None:
        """Join two namespaces by a veth pair, both ends up, with neither GRO nor queues."""
        run(
            *("ip", "link", "add", near_name, "mtu", str(mtu), "netns", near.name, "type", "veth"),
            *("peer", "name", far_name, "mtu", str(mtu), "netns", far.name),
        )
        for namespace, name in ((near, near_name), (far, far_name)):
            namespace.offload(name, tso=False, gro=False)
            namespace.set_up(name, up=True)

    @staticmethod
    def set_gro(
        sender: Namespace, sender_name: str, receiver: Namespace, receiver_name: str, *, on: bool
    ) -> None:
        """Switch GRO for one direction of a link, in a way that loses and reorders nothing.

        Without GRO a veth hands over on the processor that sends, and a queue would let one
        processor send for another: no queue. With GRO (and no TCP segmentation at the sender,
        else UDP passes it by) all goes through one ring of 256 frames, which keeps the order but
        loses what a burst puts on top, unless a queue holds the sender back.
        """
        receiver.offload(receiver_name, gro=on)
        sender.queue(sender_name, on=on)

    def close(self) -> None:
        """Remove everything; a forked child leaves its parent's namespaces alone."""
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.close)
        while self._namespaces:
            self._namespaces.pop().remove()

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove everything."""
        self.close()
