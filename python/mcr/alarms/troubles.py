"""Inputs that wait and outputs that are parked, as events: each beginning and each end."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Literal, NamedTuple, Protocol

from ..rules.active_rule import HostedRule
from ..stats.rule_state import InputTrouble
from .notice import Notice, WatchedRule, label

Report = tuple[str, tuple[Literal["unresolved", "waiting"], str] | None, Sequence[str | None]]
"""The troubles of a rule, as the core lists them: id, state and reason of the input, and for each
output why it is parked."""


class Trouble(NamedTuple):
    """Why a rule does not work, or not as it could."""

    trouble: InputTrouble | None = None
    """Why its input waits."""
    parked: tuple[str | None, ...] = ()
    """For each output, why it is parked; None where it works."""
    engine: str | None = None
    """Why the engine relays it and not the kernel, if that is worth a sentence."""


class TroubledCore(Protocol):
    """What knows the troubles of all rules."""

    def troubles(self, version: int | None) -> tuple[int, Sequence[Report]] | None:
        """Return them with their version; None if it is the given one."""


class TroubleMonitor:
    """Compares the troubles of rules with those that were known before."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._version: int | None = None
        self._known: dict[str, Trouble] | None = None

    def forget(self) -> None:
        """Compare the next sample with none, after a pause."""
        self._version = self._known = None

    def sample(self, core: TroubledCore, rules: Mapping[str, WatchedRule]) -> list[Notice]:
        """Return what has changed since the last sample; nothing for the first one."""
        found = core.troubles(self._version)
        if found is None:
            return []
        self._version, reports = found
        before, self._known = self._known, dict(map(_trouble, reports))
        if before is None:
            return []
        none = Trouble()
        pairs = (
            (rules[each], before.get(each, none), self._known.get(each, none))
            for each in before | self._known
            if each in rules
        )
        return [notice for pair in pairs for notice in trouble_notices(*pair)]


def trouble_notices(hosted: HostedRule, before: Trouble, after: Trouble) -> Iterator[Notice]:
    """Yield an event for each input or output of a rule whose trouble has begun or ended."""
    rule, name = hosted.rule, label(hosted.rule)
    fields = {"id": rule.id, "name": rule.name}
    if (before.trouble is None) != (after.trouble is None):
        waits = after.trouble is not None
        text = f"waits: {after.trouble}" if waits else "receives again"
        event = "waiting" if waits else "resumed"
        yield Notice("rule", event, f"rule {name} {text}", fields, is_warning=waits)
    reasons: Iterable[tuple[str | None, str | None]] = zip_longest(before.parked, after.parked)
    outputs = range(len(hosted.resolved.outputs))
    for index, (was, reason) in zip(outputs, reasons, strict=False):
        if (was is None) == (reason is None):
            continue
        is_parked = reason is not None
        text = f"is parked: {reason}" if is_parked else "sends again"
        number = hosted.resolved.number_of(index)
        yield Notice(
            "rule",
            "parked" if is_parked else "unparked",
            f"output {number} of rule {name} {text}",
            {**fields, "output": number},
            is_warning=is_parked,
        )


def _trouble(report: Report) -> tuple[str, Trouble]:
    rule_id, trouble, parked = report
    return rule_id, Trouble(None if trouble is None else InputTrouble(*trouble), tuple(parked))
