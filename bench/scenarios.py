"""What is measured: shapes of relaying, sizes and modes, and who is compared with whom."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from .peers import LEAST, MOST, Flow
from .topology import Mode

IN_PORT = 5001
OUT_PORT = 6001
HOST = "10.77.1.2"  # dst behind one relay


class Feed(Enum):
    """How datagrams reach the relay's input."""

    SOCKET = "socket"  # a UDP socket in src sends them: its core is soon the limit
    WIRE = "wire"  # the kernel makes the frames, as a card delivers them


class Sink(Enum):
    """Where the receiver counts copies."""

    STACK = "stack"  # behind its driver: the kernel has made a packet of each
    CARD = "card"  # in its driver: costs next to nothing here, like a card and another machine


class Kind(Enum):
    """The number that a scenario compares."""

    THROUGHPUT = "copies/s"
    SCALING = "copies/s, input paced"
    LOSSLESS = "datagrams/s without loss"
    LATENCY = "p50 us"
    CHANGES = "p50 us, beside 10 000 rules"


@dataclass(frozen=True, slots=True)
class Shape:
    """How many inputs, how many outputs each, through how many relays in a row."""

    name: str
    flows: int = 1
    outputs: int = 1
    hops: int = 1
    hosts: bool = False  # outputs are ports of dst's address instead of groups
    merges: bool = False  # all inputs have the same RTP packets, which leave once

    @property
    def single(self) -> bool:
        """One input, one output, one relay: what every peer can do."""
        return (self.flows, self.outputs, self.hops) == (1, 1, 1)

    def flows_at(self, hop: int) -> list[Flow]:
        """List the flows of one relay; the first output of a hop is the input of the next."""
        if self.hosts:
            ports = range(OUT_PORT, OUT_PORT + self.outputs)
            return [Flow(f"239.1.0.1:{IN_PORT}", tuple(f"{HOST}:{port}" for port in ports))]
        return [
            Flow(
                f"239.{hop + 1}.0.{flow + 1}:{IN_PORT if hop == 0 else OUT_PORT}",
                tuple(
                    f"239.{hop + 2}.{output}.{flow + 1}:{OUT_PORT}"
                    for output in range(self.outputs)
                ),
            )
            for flow in range(self.flows)
        ]

    @property
    def alike(self) -> int:
        """How many inputs have the same datagrams, of which one makes copies."""
        return self.flows if self.merges else 1

    @property
    def copies(self) -> int:
        """The copies of one datagram of each input."""
        return self.outputs * self.flows // self.alike


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the table."""

    kind: Kind
    shape: Shape
    size_bytes: int
    mode: Mode
    rate_pps: int = 0  # latency, changes and scaling only
    least_bytes: int = 0  # sizes are random from this to size_bytes; 0: all have size_bytes
    feed: Feed = Feed.SOCKET
    sink: Sink = Sink.STACK

    @property
    def numbered(self) -> bool:
        """Whether datagrams carry their number, by which the sink checks their order."""
        if self.shape.hosts:
            return False
        return self.least_bytes > 0 or self.feed is Feed.WIRE

    @property
    def sizes(self) -> str:
        """The payloads in bytes, as `1400` or `60-400`."""
        return f"{self.least_bytes}-{self.size_bytes}" if self.least_bytes else f"{self.size_bytes}"

    @property
    def labels(self) -> tuple[str, ...]:
        """What else selects it: `sizes:60-400`, `x20` (its flows), `egress` (ways are compared).

        `offload`: the relay in the kernel is one of these ways.
        """
        if not self.numbered:
            return ()
        # Where nothing merges, frames as from a wire do not pass the driver.
        offloads = self.feed is Feed.WIRE and self.mode is Mode.GRO
        offload = ("offload",) if offloads else ()
        return (f"sizes:{self.sizes}", f"x{self.shape.flows}", "egress", *offload)

    @property
    def name(self) -> str:
        """What selects it on the command line, as `1:8/1400/offload` or `1:4/60-400/gro/wire`."""
        head = {
            Kind.THROUGHPUT: self.shape.name,
            Kind.SCALING: self.shape.name,
            Kind.LOSSLESS: f"{self.shape.name}-lossless" if self.shape.merges else "lossless",
            Kind.LATENCY: f"latency-{self.rate_pps // 1000}k",
            Kind.CHANGES: "changes",
        }[self.kind]
        feed = "" if self.feed is Feed.SOCKET else f"/{self.feed.value}"
        sink = "" if self.sink is Sink.STACK else f"/{self.sink.value}"
        return f"{head}/{self.sizes}/{self.mode.value}{feed}{sink}"

    @property
    def references(self) -> list[str]:
        """The peers that the others are divided by."""
        if self.kind is Kind.SCALING:
            return ["mcr"]
        if self.kind is Kind.CHANGES:
            return ["mcr_many_rules"]
        if self.shape.merges:
            return ["merge_one_by_one"]
        single = self.kind is Kind.THROUGHPUT and self.shape.flows == 1 and self.shape.hops == 1
        bare = "bare_sender_mixed" if self.least_bytes else "bare_sender"
        return ["one_by_one", bare] if single and not self.numbered else ["one_by_one"]

    def subjects(self, custom: Iterable[str]) -> list[str]:
        """List the peers that are compared, with those given on the command line."""
        if self.kind is Kind.SCALING:
            return ["mcr_workers_2"]
        if self.kind is Kind.CHANGES:
            return ["mcr_changing_rules"]
        if self.shape.merges:
            return ["mcr_merge", *custom]
        if self.numbered:
            offload = ["mcr_kernel"] if "offload" in self.labels else []
            return ["mcr", "mcr_socket", "mcr_xdp", *offload, *custom]
        one_to_one = self.kind is Kind.THROUGHPUT and self.shape.single and self.size_bytes == LARGE
        extra = ["mcr_send", "socat", "kernel"] if one_to_one else []
        if self.kind is Kind.LATENCY:
            extra = ["socat"]
        if self.shape.hosts:
            extra = ["mcr_socket", "mcr_xdp"]
        return ["mcr", *extra, *custom]


LARGE = 1400
SMALL = 200
ONE = Shape("1:1")
EIGHT = Shape("1:8", outputs=8)
MERGE = Shape("merge", flows=2, merges=True)
THOUSAND = Shape("1:1000", outputs=1000, hosts=True)
# As many flows as make it likely that each worker gets its part, at a rate that leaves most of the
# generator's core to the second worker and is still more than two workers relay.
SIXTEEN_FLOWS = Shape("1:20x16", flows=16, outputs=20)
SCALING_RATE_PPS = 32_000
TWENTY_FLOWS = 20
MIXED_SHAPES = tuple(
    Shape(f"{f'{flows}x' if flows > 1 else ''}1:{outputs}", flows=flows, outputs=outputs)
    for flows in (1, TWENTY_FLOWS)
    for outputs in (1, 4, 8)
)
SHAPES = (
    ONE,
    EIGHT,
    Shape("1:20", outputs=20),
    Shape("100x1:4", flows=100, outputs=4),
    Shape("chain3", hops=3),
)


def all_scenarios() -> list[Scenario]:
    """List every scenario in the order of the table."""
    large = [Scenario(Kind.THROUGHPUT, shape, LARGE, mode) for mode in Mode for shape in SHAPES]
    small = [
        Scenario(Kind.THROUGHPUT, shape, SMALL, mode) for mode in Mode for shape in (ONE, EIGHT)
    ]
    live = (Mode.SOFTWARE, Mode.GRO)
    lossless = [Scenario(Kind.LOSSLESS, ONE, LARGE, mode) for mode in live]
    latency = [
        Scenario(Kind.LATENCY, ONE, LARGE, mode, rate) for mode in live for rate in (1_000, 50_000)
    ]
    scaling = [
        Scenario(Kind.SCALING, SIXTEEN_FLOWS, LARGE, mode, SCALING_RATE_PPS) for mode in live
    ]
    # With GRO on every rule holds one more socket than most limits of descriptors allow.
    changes = Scenario(Kind.CHANGES, ONE, LARGE, Mode.SOFTWARE, 50_000)
    merges = [
        Scenario(kind, MERGE, LARGE, mode)
        for kind in (Kind.THROUGHPUT, Kind.LOSSLESS)
        for mode in Mode
    ]
    return [
        *(*large, *small, *mixed_scenarios(), *thousand_scenarios()),
        *(*scaling, *lossless, *latency, changes, *merges),
    ]


def thousand_scenarios() -> list[Scenario]:
    """List those with a thousand hosts, beside a program that only sends to them."""
    return [
        Scenario(Kind.THROUGHPUT, THOUSAND, most, mode, least_bytes=least)
        for least, most in ((LEAST, MOST), (0, LARGE))
        for mode in (Mode.SOFTWARE, Mode.GRO)
    ]


def mixed_scenarios() -> list[Scenario]:
    """List those with random sizes, one flow and twenty, and equal sizes beside them."""
    return [
        Scenario(Kind.THROUGHPUT, shape, most, mode, least_bytes=least, feed=feed, sink=sink)
        for feed, sink, sizes in (
            (Feed.SOCKET, Sink.STACK, ((LEAST, MOST),)),
            (Feed.WIRE, Sink.STACK, ((LEAST, MOST), (0, LARGE))),
            (Feed.WIRE, Sink.CARD, ((LEAST, MOST), (0, LARGE))),
        )
        for least, most in sizes
        for mode in (Mode.SOFTWARE, Mode.GRO)
        for shape in MIXED_SHAPES
        if sink is Sink.STACK or mode is Mode.GRO  # otherwise frames do not pass the driver
    ]


def quick_scenarios() -> list[Scenario]:
    """List 1:1 and 1:8 with 1400 bytes in every mode."""
    return [
        Scenario(Kind.THROUGHPUT, shape, LARGE, mode) for mode in Mode for shape in (ONE, EIGHT)
    ]


def select(scenarios: Iterable[Scenario], patterns: list[str]) -> list[Scenario]:
    """Keep the scenarios that match a pattern by name, its first part or a label; none: all."""
    if not patterns:
        return list(scenarios)
    return [s for s in scenarios if any(_matches(s, pattern) for pattern in patterns)]


def _matches(scenario: Scenario, pattern: str) -> bool:
    by_name = fnmatchcase(scenario.name, pattern) or fnmatchcase(scenario.name, f"{pattern}/*")
    return by_name or pattern in scenario.labels
