"""What tests of the ways of outputs share: rules, bursts, and relays of either kind."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from tests.support.deadline import wait_until

from .bursts import SMALLEST, BurstSender, LinkReceiver, mixed_payloads
from .checks import DEADLINE_S, HasDict, settle
from .daemons import put_first, serving
from .frames import Flow
from .lab import Lab
from .namespaces import Namespace
from .relays import Ingress, put_engines_first, relaying

BURST = 256
PORT = 5001
OUT_PORT = 6001
TBF = ("tbf", "rate", "10gbit", "burst", "1000000", "limit", "10000000")
_SOURCES = {4: "10.1.0.2", 6: "fd01::2"}

MIXED = mixed_payloads(1024)
WARM_S = 20.0
"""How long it may take until the engine has seen enough of the traffic, on a busy machine."""

Egress = Literal["auto", "socket", "xdp"]
Kind = Literal["library", "daemon"]
ReadStats = Callable[[], HasDict]


def flow(number: int, version: int = 4) -> Flow:
    """The datagrams for the input with this number."""
    group = f"239.1.90.{number}" if version == 4 else f"ff15::91:{number:x}"
    return Flow(_SOURCES[version], group, PORT)


def copy_group(number: int, version: int = 4) -> str:
    """The group of the output with this number."""
    return f"239.2.90.{number}" if version == 4 else f"ff15::92:{number:x}"


def output(number: int, interface: str = "out0", version: int = 4, options: str = "") -> str:
    """An output to its group."""
    return f"{copy_group(number, version)}%{interface}:{OUT_PORT}{options}"


def rule(number: int, *outputs: str, version: int = 4) -> str:
    """The rule for the input with this number."""
    return f"{flow(number, version).group}%in0:{PORT} to {' '.join(outputs)}"


def single_frames(lab: Lab) -> None:
    """Have every datagram be a frame with a finished checksum, and no veth queue or merge."""
    lab.set_offload(on=False)
    for near, far in (("out0", "d0"), ("out1", "d1")):
        lab.relay.queue(near, on=False)
        lab.receiver.offload(far, gro=False)


@contextlib.contextmanager
def relayed(
    lab: Lab, kind: Kind, ingress: Ingress, *rules: str, egress: Egress = "auto"
) -> Iterator[ReadStats]:
    """Run the rules in a relay of this process or in a daemon; give what reads its counters.

    Other work on the machine does not delay it: many a test asks when copies leave.
    """
    if kind == "library":
        with relaying(lab.relay, *rules, ingress=ingress, egress=egress) as relay:
            put_engines_first()
            yield relay.stats
        return
    with (
        serving(lab.relay, "--ingress", ingress, "--egress", egress) as daemon,
        daemon.client() as client,
    ):
        put_first(daemon)
        for each in rules:
            client.add_rule(each)
        yield client.stats


def send_in_bursts(
    sender: BurstSender, flows: Sequence[Flow], sent: Sequence[bytes], stats: ReadStats
) -> None:
    """Send each payload to every flow; a burst follows once the one before has left."""
    step = BURST // len(flows)
    for start in range(0, len(sent), step):
        piece = sent[start : start + step]
        wanted = matched(stats()) + len(piece) * len(flows)
        sender.send_mixed([(each, payload) for payload in piece for each in flows])
        settle_matched(stats, wanted)


def send_until(
    wanted: Sequence[str],
    sender: BurstSender,
    flows: Sequence[Flow],
    stats: ReadStats,
    sent: Sequence[bytes] = MIXED,
) -> None:
    """Send these, random sizes by default, until the outputs have these ways."""
    deadline = time.monotonic() + WARM_S
    while ways(stats()) != list(wanted):
        assert time.monotonic() < deadline, ways(stats())
        send_in_bursts(sender, flows, sent, stats)


class BurstFlow:
    """A thread that sends short bursts of numbered datagrams until it is stopped.

    With a receiver each burst follows once the one before it has arrived there: a busy machine may
    let the processor of a queue wait for longer than the queue has room for.
    """

    def __init__(
        self,
        sender: BurstSender,
        number: int,
        version: int = 4,
        receiver: LinkReceiver | None = None,
    ) -> None:
        """Prepare a flow to the input with this number."""
        self.sent: list[bytes] = []
        self.has_equal_sizes = False
        self.burst = 64
        self._sender, self._flow = sender, flow(number, version)
        self._receiver = receiver
        self._payloads = mixed_payloads(200_000, seed=number)
        self._stop, self._turn = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        """Start sending."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sending."""
        self.stop()

    def stop(self) -> None:
        """Stop sending; what was sent is known then."""
        self._stop.set()
        self._thread.join()

    def advance(self, count: int = 500) -> None:
        """Wait until so many more were sent."""
        until = len(self.sent) + count
        wait_until(lambda: len(self.sent) >= until, WARM_S)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Send nothing for the time of the block."""
        with self._turn:
            yield

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            if self._receiver is not None and len(self._receiver.drain()) < len(self.sent):
                continue
            with self._turn:
                piece = self._payloads[len(self.sent) : len(self.sent) + self.burst]
                if self.has_equal_sizes:
                    piece = [payload[:SMALLEST] for payload in piece]
                self._sender.send_mixed([(self._flow, payload) for payload in piece])
                self.sent += piece


def expect_all(link: LinkReceiver, sending: BurstFlow, stats: ReadStats) -> None:
    """Everything sent has arrived, once and in order."""
    sending.stop()
    count = len(sending.sent)
    wait_until(lambda: sent_counts(stats()) == [count], WARM_S, str(sent_counts(stats())))
    link.wait_for(count)
    assert link.payloads(OUT_PORT) == sending.sent


def settle_matched(stats: ReadStats, count: int) -> None:
    """Wait until the rules have matched so many, and nothing is pending."""
    settle(Reader(stats), lambda now: matched(now) == count)


def matched(stats: HasDict) -> int:
    """What all rules have matched."""
    return sum(found["matched"] for found in stats.as_dict()["rules"])


@dataclass(frozen=True, slots=True)
class Reader:
    """A relay, as far as `settle` knows one."""

    stats: ReadStats
    """Reads the counters."""


def ways(stats: HasDict) -> list[str]:
    """`xdp` for each output, or the reason why not."""
    return [each["way"] if each["way"] == "xdp" else each["way_reason"] for each in _outputs(stats)]


def wait_for_ways(stats: ReadStats, *wanted: str) -> None:
    """Wait until the outputs have these ways."""
    wait_until(lambda: ways(stats()) == list(wanted), DEADLINE_S, f"{wanted}: {ways(stats())}")


@contextlib.contextmanager
def firewall(namespace: Namespace) -> Iterator[None]:
    """A chain that looks at every datagram that a host sends, and accepts it."""
    namespace.run("nft", "add table inet looks")
    chain = "{ type filter hook output priority 0; }"
    namespace.run("nft", f"add chain inet looks out {chain}")
    namespace.run("nft", "add rule inet looks out counter accept")
    try:
        yield
    finally:
        namespace.run("nft", "delete table inet looks")


def sent_counts(stats: HasDict) -> list[int]:
    """What each output sent; none has lost anything."""
    assert all(sum(each["dropped"].values()) == 0 for each in _outputs(stats)), stats.as_dict()
    return [each["sent"] for each in _outputs(stats)]


def _outputs(stats: HasDict) -> list[dict[str, Any]]:
    return [each for found in stats.as_dict()["rules"] for each in found["outputs"]]
