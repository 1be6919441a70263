"""Precedence: of the rules that match a datagram, the most specific one gets it.

Defines the same order as `rust/rules`: fewer groups first, then fewer ports, then a source list
before any sender. Equally specific rules each get the datagram.
"""

import threading
from collections.abc import Collection, Iterator
from typing import NamedTuple

from .fields import Address
from .loops import FlowKey, ListenerIndex, size_of
from .spec import ResolvedInput


class Rank(NamedTuple):
    """How specific an input is; a smaller rank takes precedence."""

    group_bits: int
    ports: int
    any_sender: bool


_SINGLE_RANK = Rank(0, 1, any_sender=True)


def rank(rule_input: ResolvedInput) -> Rank:
    """The rank of an input."""
    ports = rule_input.last_port - rule_input.port + 1
    return Rank(rule_input.group_bits, ports, not rule_input.sources)


def covers(one: ResolvedInput, other: ResolvedInput) -> bool:
    """Whether `one` matches every datagram that `other` matches; the two must overlap."""
    groups = one.group_bits >= other.group_bits
    ports = one.port <= other.port and other.last_port <= one.last_port
    senders = not one.sources or (bool(other.sources) and {*other.sources} <= {*one.sources})
    return groups and ports and senders


class Precedence:
    """An index of the rules' inputs that finds overlapping ones without a full scan.

    Thread-safe.
    """

    def __init__(self) -> None:
        """Create an empty index."""
        self._lock = threading.Lock()
        self._any_sender = ListenerIndex()
        """Rules without a source list."""
        self._by_sender = ListenerIndex()
        """Rules with a source list, under each source."""
        self._listed_senders = ListenerIndex()
        """Rules with a source list, under no source."""

    def add(self, rule_id: str, rule_input: ResolvedInput) -> None:
        """Add a rule."""
        with self._lock:
            for listeners, flows in self._keys(rule_input):
                listeners.add(flows, rule_id)

    def remove(self, rule_id: str, rule_input: ResolvedInput) -> None:
        """Undo one `add`."""
        with self._lock:
            for listeners, flows in self._keys(rule_input):
                listeners.remove(flows, rule_id)

    def ranked_overlaps(self, rule_input: ResolvedInput) -> tuple[dict[str, Rank], dict[str, Rank]]:
        """Find the rules that match some of the same datagrams and have another rank.

        Returns:
            The more specific rules and the less specific rules, each with its rank.
        """
        more_specific: dict[str, Rank] = {}
        less_specific: dict[str, Rank] = {}
        own = rank(rule_input)
        with self._lock:
            if own == _SINGLE_RANK and self._have_one_rank:
                return more_specific, less_specific
            for other, ids in self._overlaps(rule_input):
                if other != own:
                    ranks = more_specific if other < own else less_specific
                    ranks.update(dict.fromkeys(ids, other))
        return more_specific, less_specific

    def overlapping(self, rule_input: ResolvedInput) -> list[str]:
        """The rules that match some of the same datagrams on the same interface."""
        with self._lock:
            return [rule_id for _, ids in self._overlaps(rule_input) for rule_id in ids]

    @property
    def _have_one_rank(self) -> bool:
        """Whether all rules have single groups and ports, and any senders, as most have."""
        return self._any_sender.are_single and not self._listed_senders

    def _keys(self, rule_input: ResolvedInput) -> Iterator[tuple[ListenerIndex, list[FlowKey]]]:
        if not rule_input.sources:
            yield self._any_sender, [_flow(rule_input)]
            return
        yield self._by_sender, [_flow(rule_input, source) for source in rule_input.sources]
        yield self._listed_senders, [_flow(rule_input)]

    def _overlaps(self, rule_input: ResolvedInput) -> Iterator[tuple[Rank, Collection[str]]]:
        """The rules that match some of the same datagrams, by rank."""
        for flow, ids in self._any_sender.overlapping(_flow(rule_input)):
            yield Rank(*size_of(flow), any_sender=True), ids
        if not rule_input.sources:
            for flow, ids in self._listed_senders.overlapping(_flow(rule_input)):
                yield Rank(*size_of(flow), any_sender=False), ids
        for source in rule_input.sources:
            for flow, ids in self._by_sender.overlapping(_flow(rule_input, source)):
                yield Rank(*size_of(flow), any_sender=False), ids


def _flow(rule_input: ResolvedInput, source: Address | None = None) -> FlowKey:
    return FlowKey(
        rule_input.group,
        rule_input.group_bits,
        rule_input.port,
        rule_input.last_port,
        f"{rule_input.device}/{rule_input.vlan}",  # unambiguous: interface names have no slash
        source,
    )
