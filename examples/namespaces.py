"""A network of three hosts in one machine, for the demo; needs root.

    source                      relay                       receiver
    feed0 10.77.1.2  ------  in0 10.77.1.1
                             out0 10.77.2.1  ------  sink0 10.77.2.2

Each host is a network namespace under a generated name; all are removed at the end of the block.
"""

import contextlib
import ctypes
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

LINK_UP_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class LocalHost:
    """A network namespace."""

    name: str

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Switch the calling thread to this namespace, to open sockets there."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.name}") as there:
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def ip(self, command: str) -> str:
        """Run one `ip` command in the namespace."""
        return _ip(f"-n {self.name} {command}")

    def give(self, interface: str, address: str) -> None:
        """Bring an interface up with an address."""
        self.ip(f"address add {address}/24 dev {interface}")
        self.ip(f"link set {interface} up")


@dataclass(frozen=True, slots=True)
class Network:
    """The three hosts."""

    source: LocalHost
    relay: LocalHost
    receiver: LocalHost


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Create the network, and remove it at the end, also after an exception."""
    tag = secrets.token_hex(3)
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(_host(f"mcr-{tag}-{role}")) for role in ("src", "mid", "dst")]
        source, relay, receiver = hosts
        _ip(f"link add feed0 netns {source.name} type veth peer name in0 netns {relay.name}")
        _ip(f"link add sink0 netns {receiver.name} type veth peer name out0 netns {relay.name}")
        source.give("feed0", "10.77.1.2")
        relay.give("in0", "10.77.1.1")
        relay.give("out0", "10.77.2.1")
        receiver.give("sink0", "10.77.2.2")
        for interface in ("in0", "out0"):
            _wait_for_link(relay, interface)
        yield Network(source, relay, receiver)


@contextlib.contextmanager
def star(count: int) -> Iterator[tuple[LocalHost, list[LocalHost]]]:
    """A host with a bridge, 10.88.0.1 on core0, and hosts at it: 10.88.0.2 and so on, on eth0."""
    tag = secrets.token_hex(3)
    with contextlib.ExitStack() as stack:
        core = stack.enter_context(_host(f"mcr-{tag}-core"))
        core.ip("link add core0 type bridge mcast_snooping 0")
        core.give("core0", "10.88.0.1")
        core.ip("link set lo up")
        hosts = []
        for number in range(2, 2 + count):
            host = stack.enter_context(_host(f"mcr-{tag}-{number}"))
            _ip(f"link add p{number} netns {core.name} type veth peer name eth0 netns {host.name}")
            core.ip(f"link set p{number} master core0 up")
            host.ip("link set lo up")
            host.give("eth0", f"10.88.0.{number}")
            hosts.append(host)
        for host in hosts:
            _wait_for_link(host, "eth0")
        yield core, hosts


@contextlib.contextmanager
def _host(name: str) -> Iterator[LocalHost]:
    _ip(f"netns add {name}")
    try:
        yield LocalHost(name)
    finally:
        _ip(f"netns delete {name}")


def _wait_for_link(host: LocalHost, interface: str) -> None:
    deadline = time.monotonic() + LINK_UP_WITHIN_S
    while "state UP" not in host.ip(f"link show {interface}"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{interface} in {host.name} did not come up")
        time.sleep(0.01)


def _ip(command: str) -> str:
    run = subprocess.run(["ip", *command.split()], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise OSError(f"ip {command}: {run.stderr.strip()}")
    return run.stdout


def _setns(descriptor: int) -> None:
    # os.setns is new in Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newnet = 0x40000000
    if libc.setns(descriptor, clone_newnet) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"entering a network namespace: {os.strerror(error)}")
