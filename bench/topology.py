"""Network namespaces src -- relay (-- relay ...) -- dst, joined by veth pairs, and the sink.

In every namespace traffic comes in by `rx0` and leaves by `tx0`. The sink in dst is a counter that
drops, or a program that also checks the order of numbered datagrams. Names carry the bench's
process id, so that what a killed run left behind is found and removed by the next.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import IO, Self

from .failure import BenchError
from .order_sink import OrderSink

PREFIX = "mcr-bench"
HEADERS_BYTES = 28  # IPv4 and UDP, once in every frame and once in every super-frame
# A child ends with the bench, also where that was killed.
TIED = ("setpriv", "--pdeathsig", "KILL")
DROP = "ip protocol udp counter name copies drop"
SINK = (
    "table netdev bench",
    "counter netdev bench copies",
    "chain netdev bench sink { type filter hook ingress device rx0 priority 0; }",
    f"rule netdev bench sink {DROP}",
)
SYSCTLS = (
    "net.ipv6.conf.all.disable_ipv6=1",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
)


class Mode(Enum):
    """Who cuts super-frames into frames."""

    SOFTWARE = "software"  # the sending socket's stack; nothing is merged on the way in
    GRO = "gro"  # as software, and the relay's input interface merges
    OFFLOAD = (
        "offload"  # nobody: veth passes super-frames whole, as a NIC with hardware GRO and USO
    )


@dataclass(frozen=True, slots=True)
class Count:
    """What the sink has counted, and when (monotonic seconds)."""

    frames: int
    bytes: int
    at_s: float
    late: int = 0  # numbered copies that came after a later one of their flow

    def datagrams(self, size_bytes: int) -> float:
        """Datagrams of one size: a super-frame has one pair of headers and many payloads."""
        return (self.bytes - HEADERS_BYTES * self.frames) / size_bytes


class Topology:
    """Namespaces for one scenario; leaving the context removes them and ends what runs there."""

    def __init__(
        self, hops: int, mode: Mode, order_sink: str = "", sink_place: str = "stack"
    ) -> None:
        """Prepare *hops* relay namespaces in a row, made when the context is entered.

        With the path of the program *order_sink* that is the sink, at *sink_place*, instead of a
        counter.
        """
        self.mode = mode
        self._order_program = order_sink
        self._sink_place = sink_place
        self._order_sink: OrderSink | None = None
        self.src = f"{PREFIX}-{os.getpid()}-src"
        self.dst = f"{PREFIX}-{os.getpid()}-dst"
        self.relays = [f"{PREFIX}-{os.getpid()}-relay{hop}" for hop in range(hops)]
        self._children: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        """Make the namespaces, links and sink."""
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End every process started here, then remove the namespaces."""
        self._remove()

    def spawn(
        self,
        namespace: str,
        cores: Sequence[int],
        command: list[str],
        log: IO[str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command in a namespace on some cores; its process id is the command's own.

        With a log it has no input and prints there; otherwise its input and output are pipes.
        """
        places = ",".join(map(str, cores))
        child = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *TIED, "taskset", "-c", places, *command],
            stdin=subprocess.DEVNULL if log else subprocess.PIPE,
            stdout=log or subprocess.PIPE,
            stderr=log,
            text=True,
        )
        self._children.append(child)
        return child

    def end(self, child: subprocess.Popen[str]) -> None:
        """End one process now: SIGTERM, and SIGKILL where that does not help within 5 s."""
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self._children.remove(child)

    def count(self) -> Count:
        """Read the sink."""
        before_s = time.monotonic()
        if self._order_sink is not None:
            tally, after_s = self._order_sink.count(), time.monotonic()
            whole = tally.bytes + HEADERS_BYTES * tally.frames
            return Count(tally.frames, whole, (before_s + after_s) / 2, tally.late)
        text = run_in(self.dst, "nft -j list counter netdev bench copies")
        after_s = time.monotonic()
        counter = json.loads(text)["nftables"][1]["counter"]
        return Count(counter["packets"], counter["bytes"], (before_s + after_s) / 2)

    @property
    def order_sink(self) -> OrderSink:
        """The sink of a scenario with numbered datagrams."""
        if self._order_sink is None:
            raise BenchError("this sink does not check the order")
        return self._order_sink

    def open_sink(self) -> None:
        """Let traffic through to sockets in dst, no longer counted or dropped."""
        run_in(self.dst, "nft flush chain netdev bench sink")

    def close_sink(self) -> None:
        """Count and drop again."""
        run_in(self.dst, f"nft add rule netdev bench sink {DROP}")

    def _make(self) -> None:
        chain = [self.src, *self.relays, self.dst]
        for name in chain:
            run(f"ip netns add {name}")
            run_in(name, f"sysctl -qw {' '.join(SYSCTLS)}")
            run(f"ip -n {name} link set lo up")
        for link, (near, far) in enumerate(pairwise(chain)):
            run(f"ip link add name tx0 netns {near} type veth peer name rx0 netns {far}")
            ends = (near, "tx0", 1), (far, "rx0", 2)
            # veth takes XDP frames only if its peer merged already when it came up.
            for namespace, interface, _ in ends:
                self._set_features(namespace, interface)
            for namespace, interface, host in ends:
                run(f"ip -n {namespace} addr add 10.77.{link}.{host}/24 dev {interface}")
                run(f"ip -n {namespace} link set {interface} up")
        if self._order_program:
            program = self._order_program
            command = [program, "rx0", f"{program}.o", self._sink_place]
            child = self.spawn(self.dst, sorted(os.sched_getaffinity(0)), command)
            self._order_sink = OrderSink(child)
            return
        for statement in SINK:
            run_in(self.dst, f"nft add {statement}")

    def _set_features(self, namespace: str, interface: str) -> None:
        for feature, state in self._device_settings(namespace, interface).items():
            run_in(namespace, f"ethtool -K {interface} {feature} {state}")

    def _device_settings(self, namespace: str, interface: str) -> dict[str, str]:
        whole = self.mode is Mode.OFFLOAD and interface == "tx0"
        # At dst as well for frames of XDP: veth accepts them only where its peer merges. No socket
        # there asks for merged datagrams, so they stay apart.
        places = [*self.relays, *([self.dst] if self._order_program else [])]
        merge = self.mode is not Mode.SOFTWARE and interface == "rx0" and namespace in places
        return {
            "tso": "off",
            "gso": "on" if whole else "off",
            "tx-udp-segmentation": "on" if whole else "off",
            "gro": "on" if merge else "off",
        }

    def _remove(self) -> None:
        for child in self._children:
            child.kill()
            child.wait()
        self._children.clear()
        for name in [self.src, *self.relays, self.dst]:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, check=False)


def run(command: str) -> str:
    """Run a set-up command and return its output.

    Raises:
        BenchError: it failed; with its own words.
    """
    try:
        done = subprocess.run(command.split(), capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        raise BenchError(f"{command}: {error.stderr.strip()}") from error
    return done.stdout


def run_in(namespace: str, command: str) -> str:
    """Run a set-up command in a namespace, as `run`."""
    return run(f"ip netns exec {namespace} {command}")


def remove_leftovers() -> None:
    """Remove namespaces of benches that no longer run."""
    for line in run("ip netns list").splitlines():
        found = re.match(rf"({PREFIX}-(\d+)-\w+)", line)
        if found and not os.path.exists(f"/proc/{found[2]}"):
            run(f"ip netns del {found[1]}")
