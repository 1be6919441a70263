"""Which of many rules a command shows, and in which order."""

from collections.abc import Callable, Iterable
from typing import Annotated, Literal, TypeVar

import typer

from ..protocol.results import RuleInfo
from ..stats import RuleStats

R = TypeVar("R", RuleStats, RuleInfo)
StatsOrder = Literal["rate", "loss", "name", "last-seen"]
ListOrder = Literal["loss", "name", "last-seen"]

SomeRules = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RULE",
        help="Only these rules, by id, name or text, or by a quoted pattern for these, as 'A0*'.",
    ),
]
OnlyProblems = Annotated[
    bool,
    typer.Option(
        "--only-problems",
        help="Only rules that receive nothing now, or not what they should, or lose copies.",
    ),
]
NoPager = Annotated[
    bool, typer.Option("--no-pager", help="Never show the output in a pager ($PAGER, or less).")
]
_HEALTHY = ("flowing", "disabled")
RECENT_S = 5.0
"""A loss or refusal before that is no problem of now; the same age as in the state of a rule."""


def has_problem(rule: RuleStats | RuleInfo, now: float) -> bool:
    """Whether something is wrong with a rule now, at the Unix time `now`.

    What a user disabled is as it should be.
    """
    if rule.state_code == "disabled":
        return False
    return rule.state_code not in _HEALTHY or any(
        output.parked is not None
        or (output.last_loss is not None and now - output.last_loss.at < RECENT_S)
        or (output.last_refused is not None and now - output.last_refused < RECENT_S)
        for output in rule.outputs
    )


def arranged(
    rules: Iterable[R], order: StatsOrder | None, *, only_problems: bool, now: float
) -> tuple[R, ...]:
    """The rules to show, in their order; by default the oldest first.

    `rate`, `loss` and `last-seen` put the largest and latest first.
    """
    chosen = [rule for rule in rules if not only_problems or has_problem(rule, now)]
    if order is not None:
        keys: dict[StatsOrder, Callable[[R], tuple[float | str, ...]]] = {
            "rate": _rate,
            "loss": _loss,
            "name": lambda rule: (rule.name or rule.rule,),
            "last-seen": lambda rule: (-(rule.facts.last_seen or 0),),
        }
        chosen.sort(key=keys[order])
    return tuple(chosen)


def _rate(rule: RuleStats | RuleInfo) -> tuple[float, ...]:
    rate = rule.rate_1s if isinstance(rule, RuleStats) else None
    return (0.0 if rate is None else -rate.pps,)


def _loss(rule: RuleStats | RuleInfo) -> tuple[float, ...]:
    """The rule that loses most copies a second, then the one that has lost most, then lately."""
    latest = max((each.last_loss.at for each in rule.outputs if each.last_loss), default=0.0)
    if not isinstance(rule, RuleStats):
        return (-latest,)
    rates = (each.rate_1s.dropped_pps for each in rule.outputs if each.rate_1s)
    return (-sum(rates), -rule.lost, -latest)
