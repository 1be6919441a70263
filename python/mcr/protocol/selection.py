"""Which of many rules are shown, and in which order.

Pure. Rules are `RuleStats`, or `RuleInfo` where nothing is counted.
"""

from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

from ..stats import RuleStats
from .results import RuleInfo

AnyRule = RuleStats | RuleInfo
R = TypeVar("R", RuleStats, RuleInfo, RuleStats | RuleInfo)
StatsOrder = Literal["rate", "loss", "name", "last-seen"]
ListOrder = Literal["loss", "name", "last-seen"]

_HEALTHY = ("flowing", "disabled")
RECENT_S = 5.0
"""A loss or refusal before that is no problem of now; the same age as in the state of a rule."""


def label(rule: AnyRule) -> str:
    """Return the short name of a rule: its name, else its input."""
    return rule.name or rule.rule.split(" to ", 1)[0]


def has_problem(rule: AnyRule, now: float) -> bool:
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


def mentions(rule: AnyRule, text: str) -> bool:
    """Whether the name, id, text or state of a rule contains a text, in any case."""
    wanted = text.casefold()
    texts = (rule.name or "", rule.id, rule.rule, rule.state)
    return not wanted or any(wanted in each.casefold() for each in texts)


def loses(rule: AnyRule, now: float) -> bool:
    """Whether a rule has lost copies lately, at the Unix time `now`."""
    losses = (output.last_loss for output in rule.outputs)
    return any(loss is not None and now - loss.at < RECENT_S for loss in losses)


def state_colour(rule: AnyRule, *, is_losing: bool) -> str:
    """The colour of a rule's state: green if it flows, red if it loses or an alarm is raised.

    Otherwise it waits, or is silent, and is yellow; what a user disabled has none.
    """
    if rule.state_code == "disabled":
        return ""
    if is_losing or rule.alarms:
        return "red"
    is_well = rule.state_code == "flowing" and all(each.parked is None for each in rule.outputs)
    return "green" if is_well else "yellow"


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


def _rate(rule: AnyRule) -> tuple[float, ...]:
    rate = rule.rate_1s if isinstance(rule, RuleStats) else None
    return (0.0 if rate is None else -rate.pps,)


def _loss(rule: AnyRule) -> tuple[float, ...]:
    """The rule that loses most copies a second, then the one that has lost most, then lately."""
    latest = max((each.last_loss.at for each in rule.outputs if each.last_loss), default=0.0)
    if not isinstance(rule, RuleStats):
        return (-latest,)
    rates = (each.rate_1s.dropped_pps for each in rule.outputs if each.rate_1s)
    return (-sum(rates), -rule.lost, -latest)
