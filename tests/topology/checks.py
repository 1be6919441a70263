"""What the tests wait for and assert: conditions with a deadline, and the balances."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from tests.support.deadline import pauses

DEADLINE_S = 8.0
PROCESS_S = 30.0
"""How long a process may take to start or end: seconds, on a machine that is busy."""


class HasDict(Protocol):
    """Statistics with a JSON form."""

    def as_dict(self) -> dict[str, Any]:
        """The JSON of ``mcr relay --json``."""


S = TypeVar("S", bound=HasDict)
S_co = TypeVar("S_co", bound=HasDict, covariant=True)


class HasStats(Protocol[S_co]):
    """The part of a relay that these checks use."""

    def stats(self) -> S_co:
        """The current statistics."""


def assert_balanced(stats: HasDict | Mapping[str, Any]) -> None:
    """Assert both balances of the design for every interface and every output."""
    numbers = stats if isinstance(stats, Mapping) else stats.as_dict()
    for interface in numbers["interfaces"]:
        dropped = sum(interface["dropped"].values())
        assert interface["received"] == interface["matched"] + dropped, interface
    for rule in numbers["rules"]:
        for output in rule["outputs"]:
            dropped = output["dropped"]
            accounted = output["sent"] + sum(dropped.values()) + output["pending"]
            assert output["wanted"] == accounted, output
            assert sum(output["errors"].values()) == dropped["send_error"], output


def settle(relay: HasStats[S], condition: Callable[[S], object]) -> S:
    """Wait until the statistics fulfil the condition and nothing is pending; return them.

    Statistics are published once a turn of the engine, so they follow the traffic by a moment.
    The balances must hold in every reading on the way, not only in the last.
    """
    deadline, pauses_s = time.monotonic() + DEADLINE_S, pauses()
    while True:
        stats = relay.stats()
        assert_balanced(stats)
        idle = all(
            output["pending"] == 0
            for rule in stats.as_dict()["rules"]
            for output in rule["outputs"]
        )
        if idle and condition(stats):
            return stats
        if time.monotonic() > deadline:
            raise AssertionError(f"statistics did not settle: {stats.as_dict()}")
        time.sleep(next(pauses_s))


def sent_counts(stats: HasDict) -> list[int]:
    """The copies that each output sent, in the order of rules and outputs."""
    return [output["sent"] for rule in stats.as_dict()["rules"] for output in rule["outputs"]]


def settle_sent(relay: HasStats[S], *counts: int) -> S:
    """Wait until the outputs, in order, have sent exactly these numbers of datagrams."""
    return settle(relay, lambda stats: sent_counts(stats) == list(counts))


def dropped(stats: HasDict, interface: str, reason: str) -> int:
    """The datagrams that the relay dropped on an interface for one reason."""
    for entry in stats.as_dict()["interfaces"]:
        if entry["name"] == interface:
            count: int = entry["dropped"][reason]
            return count
    raise AssertionError(f"no statistics for interface {interface}")
