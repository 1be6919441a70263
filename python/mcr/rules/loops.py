"""Flow keys: where one sender's copies can reach an input, and an index of the rules' listeners.

They are the edges of the graph in which `proposal` finds loops. A key may cover a block of groups
and a range of ports. Overlapping keys are found without enumerating groups or ports: two blocks are
either nested or disjoint, and the index holds the keys of each size in order.
"""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from .fields import Address
from .spec import ResolvedInput, ResolvedOutput


class FlowKey(NamedTuple):
    """The flows to a block of addresses and a range of ports on one interface, from one sender."""

    address: Address
    """The address; of a block the first."""
    bits: int
    """The number of low bits of the address that vary; 0 for one address."""
    port: int
    last_port: int
    interface: str
    """Empty for an address of this host, which a copy reaches by any interface."""
    source: Address | None
    """The sender. None of an output stands for every sender, None of an input for an input without
    a source list."""


Scope = tuple[str, Address | None, int]
"""Interface, source and IP version: only keys that agree in these can overlap."""
Size = tuple[int, int]
"""Variable bits of the address, and number of ports."""


def input_flow(rule_input: ResolvedInput) -> FlowKey:
    """The key of an input, regardless of the sender."""
    return FlowKey(
        rule_input.group,
        rule_input.group_bits,
        rule_input.port,
        rule_input.last_port,
        rule_input.device if rule_input.is_shared else "",
        None,
    )


def output_flow(output: ResolvedOutput) -> FlowKey:
    """The key of an output's copies, regardless of the sender."""
    return FlowKey(
        output.address,
        output.address_bits,
        output.port,
        output.last_port,
        output.device if output.is_shared else "",
        None,
    )


def listener_flows(rule_input: ResolvedInput) -> Iterator[FlowKey]:
    """The keys of an input, one for each source; none for a VLAN, as copies leave untagged."""
    if rule_input.vlan == 0:
        flow = input_flow(rule_input)
        if not rule_input.sources:
            yield flow
        for source in rule_input.sources:
            yield flow._replace(source=source)


def flows_overlap(one: FlowKey, other: FlowKey) -> bool:
    """Whether a datagram exists that belongs to both keys."""
    if one.port > other.last_port or other.port > one.last_port:
        return False
    if one.interface != other.interface or one.source != other.source:
        return False
    bits = max(one.bits, other.bits)
    return (
        one.address.version == other.address.version
        and int(one.address) >> bits == int(other.address) >> bits
    )


class ListenerIndex:
    """The rules that listen, by their flow keys."""

    def __init__(self) -> None:
        """Create an empty index."""
        self._rules: dict[FlowKey, dict[str, None]] = {}
        self._ordered: _Ordering | None = None
        """The keys in order; None until an overlap is searched for that no equal key tells."""
        self._wide_keys = 0
        """The number of keys with more than one address or port."""

    def __len__(self) -> int:
        """The number of keys."""
        return len(self._rules)

    def __iter__(self) -> Iterator[FlowKey]:
        """The keys of all listeners."""
        return iter(self._rules)

    def add(self, flows: Iterable[FlowKey], rule_id: str) -> None:
        """Add a rule under these keys."""
        for flow in flows:
            rules = self._rules.setdefault(flow, {})  # once, as addresses are slow to hash
            if not rules:
                self._insert(flow)
            rules[rule_id] = None

    def remove(self, flows: Iterable[FlowKey], rule_id: str) -> None:
        """Undo one `add`."""
        for flow in flows:
            del self._rules[flow][rule_id]
            if not self._rules[flow]:
                del self._rules[flow]
                self._delete(flow)

    def _insert(self, flow: FlowKey) -> None:
        self._wide_keys += not _is_single(flow)
        if self._ordered is not None:
            insort(_list_for(flow, self._ordered), _ordered(flow))

    def _delete(self, flow: FlowKey) -> None:
        self._wide_keys -= not _is_single(flow)
        if self._ordered is None:
            return
        scope, size = _scope(flow), size_of(flow)
        sizes = self._ordered[scope]
        del sizes[size][bisect_left(sizes[size], _ordered(flow))]
        if not sizes[size]:
            del sizes[size]
        if not sizes:
            del self._ordered[scope]

    @property
    def are_single(self) -> bool:
        """Whether each key is a single address and port."""
        return self._wide_keys == 0

    def matching(self, flow: FlowKey) -> Iterable[str]:
        """The rules that receive datagrams of this key."""
        if self._wide_keys == 0 and _is_single(flow):
            return self._rules.get(flow, ())
        return (rule_id for _, ids in self.overlapping(flow) for rule_id in ids)

    def overlapping(self, flow: FlowKey) -> Iterator[tuple[FlowKey, Collection[str]]]:
        """The keys that overlap this one, each with its rules."""
        if self._wide_keys == 0 and _is_single(flow):
            if flow in self._rules:
                yield flow, self._rules[flow]
            return
        if self._ordered is None:
            self._ordered = _in_order(self._rules)
        for size, ordered in self._ordered.get(_scope(flow), {}).items():
            for other in _overlapping(flow, size, ordered):
                yield other, self._rules[other]


_Ordered = tuple[int, int, FlowKey]
_Ordering = dict[Scope, dict[Size, list[_Ordered]]]


def _is_single(flow: FlowKey) -> bool:
    """Whether it is a single address and port."""
    return flow.bits == 0 and flow.port == flow.last_port


def size_of(flow: FlowKey) -> Size:
    """The size of a key: variable address bits, and number of ports."""
    return flow.bits, flow.last_port - flow.port + 1


def _scope(flow: FlowKey) -> Scope:
    return flow.interface, flow.source, flow.address.version


def _ordered(flow: FlowKey) -> _Ordered:
    """The key as it is sorted: by address, then port."""
    return int(flow.address), flow.port, flow


def _list_for(flow: FlowKey, ordering: _Ordering) -> list[_Ordered]:
    """The keys of its scope and size, in order."""
    return ordering.setdefault(_scope(flow), {}).setdefault(size_of(flow), [])


def _in_order(flows: Iterable[FlowKey]) -> _Ordering:
    ordering: _Ordering = {}
    for flow in flows:
        _list_for(flow, ordering).append(_ordered(flow))
    for sizes in ordering.values():
        for ordered in sizes.values():
            ordered.sort()
    return ordering


def _overlapping(flow: FlowKey, size: Size, ordered: list[_Ordered]) -> Iterator[FlowKey]:
    """Of the ordered keys of one size, those that overlap this key."""
    bits, ports = size
    first_address = int(flow.address) >> bits << bits
    last_address = first_address | (1 << flow.bits) - 1
    first_port = flow.port - ports + 1 if bits >= flow.bits else 0
    for index in range(bisect_left(ordered, (first_address, first_port)), len(ordered)):
        address, port, other = ordered[index]
        is_beyond_port = bits >= flow.bits and port > flow.last_port
        if address > last_address or is_beyond_port:
            return
        if flows_overlap(flow, other):
            yield other
