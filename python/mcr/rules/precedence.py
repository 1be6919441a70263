"""Precedence: of rules that match the same datagram, the most specific takes it.

Owns the order that `rust/rules` follows: fewer groups, then fewer ports, then senders that are
listed before any sender. What is equally specific has a copy each.
"""

import threading
from collections.abc import Collection, Iterator
from typing import NamedTuple

from .fields import Address
from .loops import FlowKey, ListenerIndex, size_of
from .spec import ResolvedInput


class Rank(NamedTuple):
    """How specific an input is: the smaller the more."""

    group_bits: int
    ports: int
    any_sender: bool


def rank(taken: ResolvedInput) -> Rank:
    """How specific an input is."""
    return Rank(taken.group_bits, taken.last_port - taken.port + 1, not taken.sources)


def holds(taken: ResolvedInput, other: ResolvedInput) -> bool:
    """Whether every datagram for the other input, which meets this one, is for this one too."""
    groups = taken.group_bits >= other.group_bits
    ports = taken.port <= other.port and other.last_port <= taken.last_port
    senders = not taken.sources or (bool(other.sources) and {*other.sources} <= {*taken.sources})
    return groups and ports and senders


class Precedence:
    """The inputs of rules, so that those that meet one are found without looking at all.

    May be asked by any thread.
    """

    def __init__(self) -> None:
        """Starts without rules."""
        self._lock = threading.Lock()
        self._for_any = ListenerIndex()
        self._by_sender = ListenerIndex()
        self._listing = ListenerIndex()
        """Those that list senders, whatever these are."""

    def add(self, rule_id: str, taken: ResolvedInput) -> None:
        """Takes a rule in."""
        with self._lock:
            for listeners, lanes in self._places(taken):
                listeners.add(lanes, rule_id)

    def remove(self, rule_id: str, taken: ResolvedInput) -> None:
        """Takes one `add` back."""
        with self._lock:
            for listeners, lanes in self._places(taken):
                listeners.remove(lanes, rule_id)

    def around(self, taken: ResolvedInput) -> tuple[dict[str, Rank], dict[str, Rank]]:
        """The rules that are for a part of the same datagrams, with their ranks.

        Returns:
            Those that are more specific, and those that are less.
        """
        own = rank(taken)
        before: dict[str, Rank] = {}
        behind: dict[str, Rank] = {}
        with self._lock:
            for other, ids in self._meeting(taken):
                if other != own:
                    (before if other < own else behind).update(dict.fromkeys(ids, other))
        return before, behind

    def meeting(self, taken: ResolvedInput) -> list[str]:
        """The rules that are for a part of the same datagrams on the same interface."""
        with self._lock:
            return [rule_id for _, ids in self._meeting(taken) for rule_id in ids]

    def _places(self, taken: ResolvedInput) -> Iterator[tuple[ListenerIndex, list[FlowKey]]]:
        if not taken.sources:
            yield self._for_any, [_lane(taken)]
            return
        yield self._by_sender, [_lane(taken, source) for source in taken.sources]
        yield self._listing, [_lane(taken)]

    def _meeting(self, taken: ResolvedInput) -> Iterator[tuple[Rank, Collection[str]]]:
        """The rules that are for the same datagrams, by how specific they are."""
        for lane, ids in self._for_any.met(_lane(taken)):
            yield Rank(*size_of(lane), any_sender=True), ids
        if not taken.sources:
            for lane, ids in self._listing.met(_lane(taken)):
                yield Rank(*size_of(lane), any_sender=False), ids
        for source in taken.sources:
            for lane, ids in self._by_sender.met(_lane(taken, source)):
                yield Rank(*size_of(lane), any_sender=False), ids


def _lane(taken: ResolvedInput, source: Address | None = None) -> FlowKey:
    home = f"{taken.device}/{taken.vlan}"  # no interface has a slash in its name
    return FlowKey(taken.group, taken.group_bits, taken.port, taken.last_port, home, source)
