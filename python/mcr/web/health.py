"""Whether the daemon works as its rules say: the reasons against it."""

from collections.abc import Iterator

from ..stats import RuleStats
from .observer import DaemonReading

NOT_LIVE = ("unresolved", "waiting")
"""The states of a rule that cannot receive."""
_NAMED = 20
"""Problems in one answer."""


def problems(reading: DaemonReading | None, failure: str | None) -> list[str]:
    """One sentence for each reason why the daemon does not work as its rules say."""
    if reading is None:
        return [failure or "the daemon takes too long to answer"]
    found = list(_problems(reading))
    more = len(found) - _NAMED
    return found if more <= 0 else [*found[:_NAMED], f"{more} more problems"]


def _problems(reading: DaemonReading) -> Iterator[str]:
    for worker in reading.workers:
        if worker.state != "running":
            yield f"worker {worker.number} is {worker.state}"
    for interface in reading.stats.interfaces:
        if interface.error:
            yield f"receiving from {interface.name} ended with {interface.error}"
    for info in reading.aside:
        if info.enabled:
            yield f"rule {info.name or info.id}: {info.state}"
    for rule in reading.stats.rules:
        if rule.state_code != "disabled":
            yield from _problems_of(rule)


def _problems_of(rule: RuleStats) -> Iterator[str]:
    label = rule.name or rule.id
    for alarm in rule.alarms:
        yield f"rule {label}: {alarm}"
    if rule.state_code in NOT_LIVE:
        yield f"rule {label}: {rule.state}"
    for output in rule.outputs:
        if output.parked:
            yield f"rule {label}, output {output.output}: {output.parked}"
