"""Networks of relays as data, and traffic through them: every hop is checked.

Each link joins two hosts. The interface of a host on it has the name of the other host.
"""

import contextlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import mcr

from .checks import settle
from .namespaces import Namespace, Net
from .relays import relaying
from .traffic import Receiver, Sender, payloads


@dataclass(frozen=True, slots=True)
class Stream:
    """What one host sends to one group."""

    host: str
    to: str
    group: str
    port: int = 5001


@dataclass(frozen=True, slots=True)
class Sink:
    """Who receives: which streams, each as often as there are ways to it."""

    host: str
    by: str
    address: str
    port: int
    streams: tuple[int, ...] = (0,)
    ways: int = 1


@dataclass(frozen=True, slots=True)
class Shape:
    """A network of relays with its traffic; `rules` has those of each relaying host."""

    name: str
    links: Sequence[tuple[str, str]]
    rules: dict[str, Sequence[str]]
    streams: Sequence[Stream]
    sinks: Sequence[Sink]
    count: int = 200
    kinds: dict[tuple[str, str], str] = field(default_factory=dict)
    """Links that are no plain veth: `vxlan` or `macvlan`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What went through all relays of a shape, in datagrams."""

    relays: int
    sent: int
    copies: int
    received: int


class Built:
    """The namespaces and links of a shape."""

    def __init__(self, net: Net, shape: Shape) -> None:
        """Lay all links; the network 10.N.0.0/24 is that of link N."""
        names = sorted({name for link in shape.links for name in link})
        self.hosts: dict[str, Namespace] = {name: net.namespace() for name in names}
        for number, (near, far) in enumerate(shape.links, 1):
            _lay(net, self.hosts, (near, far), shape.kinds.get((near, far), "veth"), number)
            self.hosts[near].address(far, f"10.{number}.0.1/24")
            self.hosts[far].address(near, f"10.{number}.0.2/24")


def _lay(
    net: Net, hosts: dict[str, Namespace], link: tuple[str, str], kind: str, number: int
) -> None:
    """Join two hosts by their link of this number, by a device of this kind upon a veth pair."""
    near, far = link
    ends = [(hosts[near], far, (1, 2)), (hosts[far], near, (2, 1))]
    if kind == "veth":
        net.link(hosts[near], far, hosts[far], near)
        return
    net.link(hosts[near], f"{far}-u", hosts[far], f"{near}-u", mtu=1600)
    for host, name, (own, other) in ends:
        below = ("dev", f"{name}-u")
        if kind == "vxlan":
            host.address(f"{name}-u", f"10.{200 + number}.0.{own}/24")
            remote = ("remote", f"10.{200 + number}.0.{other}", "dstport", "4789")
            host.ip(
                "link",
                "add",
                name,
                "mtu",
                "1500",
                "type",
                "vxlan",
                "id",
                f"{number}",
                *remote,
                *below,
            )
        else:
            upon = ("link", f"{name}-u", "name", name, "mtu", "1500")
            host.ip("link", "add", *upon, "type", "macvlan", "mode", "bridge")
        host.set_up(name, up=True)


def run(shape: Shape) -> Outcome:
    """Send every stream through the shape; all arrives, whole and in order, and nothing else."""
    with Net() as net, contextlib.ExitStack() as stack:
        hosts = Built(net, shape).hosts
        sinks = [
            stack.enter_context(Receiver(hosts[sink.host], sink.by, sink.address, sink.port))
            for sink in shape.sinks
        ]
        relays = [
            stack.enter_context(relaying(hosts[host], *rules))
            for host, rules in shape.rules.items()
        ]
        sent = [payloads(shape.count, seed=number) for number in range(len(shape.streams))]
        for stream, datagrams in zip(shape.streams, sent, strict=True):
            with Sender(hosts[stream.host], stream.to, stream.group, stream.port) as sender:
                sender.send(datagrams)
        for sink, receiver in zip(shape.sinks, sinks, strict=True):
            _check_sink(sink, receiver, sent)
        copies = sum(_check_relay(relay, shape.count) for relay in relays)
        received = sum(len(receiver.drain()) for receiver in sinks)
        return Outcome(len(relays), len(sent) * shape.count, copies, received)


def _check_sink(sink: Sink, receiver: Receiver, sent: list[list[bytes]]) -> None:
    """Every stream of the sink came by each way, byte for byte and in order, and nothing else."""
    stream_of = {datagram: number for number in sink.streams for datagram in sent[number]}
    receiver.wait_for(sum(len(sent[number]) for number in sink.streams) * sink.ways)
    came: dict[tuple[int, tuple[str, int]], list[bytes]] = defaultdict(list)
    for datagram, source in zip(receiver.collected, receiver.sources, strict=True):
        came[stream_of[datagram], source].append(datagram)
    ways = Counter(number for number, _ in came)
    assert ways == dict.fromkeys(sink.streams, sink.ways), ways
    for (number, source), datagrams in came.items():
        assert datagrams == sent[number], f"stream {number} from {source}"


def _check_relay(relay: mcr.Relay, count: int) -> int:
    """Whatever the relay received it sent to each output; return how many copies that were."""
    stats = settle(relay, lambda stats: all(rule.matched for rule in stats.rules))
    for interface in stats.interfaces:
        assert interface.received == interface.matched, interface
        assert interface.kernel_dropped_frames == 0, interface
    for rule in stats.rules:
        assert rule.matched % count == 0, rule
        assert all(output.sent == output.wanted == rule.matched for output in rule.outputs), rule
    return sum(output.sent for rule in stats.rules for output in rule.outputs)


def _rule(near: str, hop: int, *far: str) -> str:
    """From the group of one hop to that of the next, on each of the links."""
    outputs = " ".join(f"239.4.0.{hop + 1}%{name}:5001" for name in far)
    return f"239.4.0.{hop}%{near}:5001 to {outputs}"


CHAIN = Shape(
    "chain of three",
    [("src", "r1"), ("r1", "r2"), ("r2", "r3"), ("r3", "dst")],
    {
        "r1": [_rule("src", 0, "r2")],
        "r2": [_rule("r1", 1, "r3")],
        "r3": [_rule("r2", 2, "dst")],
    },
    [Stream("src", "r1", "239.4.0.0")],
    [Sink("dst", "r3", "239.4.0.3", 5001)],
)
BACK_TO_BACK = Shape(
    "two back to back",
    [("src", "r1"), ("r1", "r2"), ("r2", "dst")],
    {
        "r1": [_rule("src", 0, "r2"), "239.5.0.1%r2:5001 to 239.5.0.2%src:5001"],
        "r2": [_rule("r1", 1, "dst"), "239.5.0.0%dst:5001 to 239.5.0.1%r1:5001"],
    },
    [Stream("src", "r1", "239.4.0.0"), Stream("dst", "r2", "239.5.0.0")],
    [
        Sink("dst", "r2", "239.4.0.2", 5001),
        Sink("src", "r1", "239.5.0.2", 5001, streams=(1,)),
    ],
)
TREE = Shape(
    "tree",
    [("src", "r1"), ("r1", "r2"), ("r1", "r3")]
    + [(relay, f"{relay}-{leaf}") for relay in ("r2", "r3") for leaf in range(4)],
    {
        "r1": [_rule("src", 0, "r2", "r3")],
        "r2": [_rule("r1", 1, *(f"r2-{leaf}" for leaf in range(4)))],
        "r3": [_rule("r1", 1, *(f"r3-{leaf}" for leaf in range(4)))],
    },
    [Stream("src", "r1", "239.4.0.0")],
    [
        Sink(f"{relay}-{leaf}", relay, "239.4.0.2", 5001)
        for relay in ("r2", "r3")
        for leaf in range(4)
    ],
)
DIAMOND = Shape(
    "diamond",
    [("src", "r1"), ("r1", "r2"), ("r1", "r3"), ("r2", "r4"), ("r3", "r4"), ("r4", "dst")],
    {
        "r1": [_rule("src", 0, "r2", "r3")],
        "r2": [_rule("r1", 1, "r4")],
        "r3": [_rule("r1", 1, "r4")],
        "r4": [_rule("r2", 2, "dst"), _rule("r3", 2, "dst")],
    },
    [Stream("src", "r1", "239.4.0.0")],
    [Sink("dst", "r4", "239.4.0.3", 5001, ways=2)],
)
_MESH = ("r1", "r2", "r3", "r4")
MESH = Shape(
    "mesh of four",
    [*itertools.combinations(_MESH, 2), *((name, f"h{name[1]}") for name in _MESH)],
    {
        # Group 239.6.N.0 comes from host N, 239.6.N.1 from relay N, 239.6.N.2 goes to the hosts.
        name: [
            f"239.6.{name[1]}.0%h{name[1]}:5001 to "
            + " ".join(f"239.6.{name[1]}.1%{other}:5001" for other in _MESH if other != name),
            *(
                f"239.6.{other[1]}.1%{other}:5001 to 239.6.9.2%h{name[1]}:5001"
                for other in _MESH
                if other != name
            ),
        ]
        for name in _MESH
    },
    [Stream(f"h{name[1]}", name, f"239.6.{name[1]}.0") for name in _MESH],
    [
        Sink(f"h{n + 1}", name, "239.6.9.2", 5001, streams=tuple(m for m in range(4) if m != n))
        for n, name in enumerate(_MESH)
    ],
)
CONVERGE = Shape(
    "converge, 8 sources",
    [*((f"src{n}", "r1") for n in range(8)), ("r1", "dst")],
    {"r1": [_rule(f"src{n}", 0, "dst") for n in range(8)]},
    [Stream(f"src{n}", "r1", "239.4.0.0") for n in range(8)],
    [Sink("dst", "r1", "239.4.0.1", 5001, streams=tuple(range(8)))],
)


def fan_out(outputs: int, count: int) -> Shape:
    """One input to so many ports of a host."""
    ports = range(20_000, 20_000 + outputs)
    return Shape(
        f"1:{outputs}",
        [("src", "r1"), ("r1", "dst")],
        {"r1": ["239.4.0.0%src:5001 to " + " ".join(f"10.2.0.2:{port}" for port in ports)]},
        [Stream("src", "r1", "239.4.0.0")],
        [Sink("dst", "r1", "10.2.0.2", port) for port in ports],
        count,
    )


def groups(number: int, count: int) -> Shape:
    """So many groups on one interface, each with a rule."""
    numbers = [f"{n // 250}.{n % 250 + 1}" for n in range(number)]
    return Shape(
        f"{number} groups",
        [("src", "r1"), ("r1", "dst")],
        {"r1": [f"239.7.{n}%src:5001 to 239.8.{n}%dst:5001" for n in numbers]},
        [Stream("src", "r1", f"239.7.{n}") for n in numbers],
        [Sink("dst", "r1", f"239.8.{n}", 5001, (i,)) for i, n in enumerate(numbers)],
        count,
    )


def upon(kind: str) -> Shape:
    """One relay between two links of this kind."""
    links = [("src", "r1"), ("r1", "dst")]
    return Shape(
        kind,
        links,
        {"r1": [_rule("src", 0, "dst")]},
        [Stream("src", "r1", "239.4.0.0")],
        [Sink("dst", "r1", "239.4.0.1", 5001)],
        kinds=dict.fromkeys(links, kind),
    )


ALL = (
    CHAIN,
    BACK_TO_BACK,
    TREE,
    DIAMOND,
    MESH,
    CONVERGE,
    fan_out(50, 200),
    fan_out(1000, 10),
    groups(500, 10),
    upon("vxlan"),
    upon("macvlan"),
)
