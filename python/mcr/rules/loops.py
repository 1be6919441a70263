"""Loops: where one sender's copies can meet an input, and which rules listen there.

A lane may cover a block of groups and a range of ports. Which lanes meet is found without counting
groups or ports: blocks either hold one another or have nothing in common, and lanes are kept by
their size, each size in order.
"""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from .fields import Address
from .spec import ResolvedInput, ResolvedOutput


class FlowKey(NamedTuple):
    """Where copies of one sender can meet an input: the edges of the graph of rules."""

    address: Address
    """Of a block the first."""
    bits: int
    """How many low bits of the address vary."""
    port: int
    last_port: int
    interface: str
    """Empty for an address of this host: a copy to it comes home on any way."""
    source: Address | None
    """None is met by every sender, and listened to by inputs that let everybody through."""


Place = tuple[str, Address | None, int]
Size = tuple[int, int]


def input_flow(taken: ResolvedInput) -> FlowKey:
    """Where an input listens, whoever sends."""
    home = taken.device if taken.is_shared else ""
    return FlowKey(taken.group, taken.group_bits, taken.port, taken.last_port, home, None)


def output_flow(output: ResolvedOutput) -> FlowKey:
    """Where copies of an output go, whoever sends."""
    home = output.device if output.is_shared else ""
    return FlowKey(output.address, output.address_bits, output.port, output.last_port, home, None)


def listened_flows(taken: ResolvedInput) -> Iterator[FlowKey]:
    """The lanes of an input; none for a VLAN, as copies leave without a tag."""
    if taken.vlan == 0:
        yield from (
            input_flow(taken)._replace(source=source) for source in taken.sources or (None,)
        )


def meet(one: FlowKey, other: FlowKey) -> bool:
    """Whether something goes by way of both."""
    bits = max(one.bits, other.bits)
    return (
        (one.interface, one.source) == (other.interface, other.source)
        and one.address.version == other.address.version
        and int(one.address) >> bits == int(other.address) >> bits
        and one.port <= other.last_port
        and other.port <= one.last_port
    )


class ListenerIndex:
    """Which rules listen on which lanes."""

    def __init__(self) -> None:
        """Starts with nobody."""
        self._rules: dict[FlowKey, dict[str, None]] = {}
        self._ordered: dict[Place, dict[Size, list[tuple[int, int, FlowKey]]]] = {}
        self._wide = 0

    def __len__(self) -> int:
        """On how many lanes somebody listens."""
        return len(self._rules)

    def __iter__(self) -> Iterator[FlowKey]:
        """The lanes on which somebody listens."""
        return iter(self._rules)

    def add(self, lanes: Iterable[FlowKey], rule_id: str) -> None:
        """Lets a rule listen on lanes."""
        for lane in lanes:
            if lane not in self._rules:
                self._rules[lane] = {}
                size = size_of(lane)
                self._wide += size != _SINGLE
                ordered = self._ordered.setdefault(_place(lane), {}).setdefault(size, [])
                insort(ordered, _entry(lane))
            self._rules[lane][rule_id] = None

    def remove(self, lanes: Iterable[FlowKey], rule_id: str) -> None:
        """Takes one `add` back."""
        for lane in lanes:
            del self._rules[lane][rule_id]
            if not self._rules[lane]:
                del self._rules[lane]
                self._forget(lane)

    def _forget(self, lane: FlowKey) -> None:
        """Takes a lane out of the order."""
        place, size = _place(lane), size_of(lane)
        sizes = self._ordered[place]
        self._wide -= size != _SINGLE
        del sizes[size][bisect_left(sizes[size], _entry(lane))]
        if not sizes[size]:
            del sizes[size]
        if not sizes:
            del self._ordered[place]

    def matching(self, lane: FlowKey) -> Iterable[str]:
        """The rules that listen where something of a lane can come along."""
        if self._wide == 0 and size_of(lane) == _SINGLE:
            return self._rules.get(lane, ())
        return (rule_id for _, ids in self.met(lane) for rule_id in ids)

    def met(self, lane: FlowKey) -> Iterator[tuple[FlowKey, Collection[str]]]:
        """The lanes that meet one, each with the rules that listen there."""
        if self._wide == 0 and size_of(lane) == _SINGLE:
            if lane in self._rules:
                yield lane, self._rules[lane]
            return
        for size, ordered in self._ordered.get(_place(lane), {}).items():
            for listened in _meeting(lane, size, ordered):
                yield listened, self._rules[listened]


_SINGLE = (0, 1)


def _place(lane: FlowKey) -> Place:
    return lane.interface, lane.source, lane.address.version


def size_of(lane: FlowKey) -> Size:
    """How many groups, in bits, and ports it is for."""
    return lane.bits, lane.last_port - lane.port + 1


def _entry(lane: FlowKey) -> tuple[int, int, FlowKey]:
    return int(lane.address), lane.port, lane


def _meeting(
    lane: FlowKey, size: Size, ordered: list[tuple[int, int, FlowKey]]
) -> Iterator[FlowKey]:
    """The lanes of one size, given in order, that meet a lane."""
    bits, ports = size
    first = int(lane.address) >> bits << bits
    last = first | (1 << lane.bits) - 1
    lowest = lane.port - ports + 1 if bits >= lane.bits else 0
    for at in range(bisect_left(ordered, (first, lowest)), len(ordered)):
        address, port, listened = ordered[at]
        beyond_port = bits >= lane.bits and port > lane.last_port
        if address > last or beyond_port:
            return
        if meet(lane, listened):
            yield listened
