"""The counters of classes of traffic: the sums over the rules of each."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ..rules import Rule
from ..rules.shaping import DEFAULT_CLASS, NO_SHAPING, Shaping
from .model import ClassStats, RuleStats


def class_stats(
    shaping: Shaping, rules: Iterable[Rule], stats: Iterable[RuleStats]
) -> tuple[ClassStats, ...]:
    """The counters of all classes, the highest priority first.

    Empty while there is no class but the default, and no interface has a rate.

    Args:
        shaping: the classes.
        rules: the rules to count.
        stats: the counters of each.
    """
    if shaping == NO_SHAPING:
        return ()
    found: dict[str, list[RuleStats]] = defaultdict(list)
    for rule, own in zip(rules, stats, strict=True):
        found[rule.traffic_class or DEFAULT_CLASS].append(own)
    ranked = sorted(shaping.classes.values(), key=lambda each: -each.priority)
    return tuple(
        _sums(each.name, each.priority, each.weight, found.get(each.name, ())) for each in ranked
    )


def _sums(name: str, priority: int, weight: int, rules: Sequence[RuleStats]) -> ClassStats:
    outputs = [output for rule in rules for output in rule.outputs]
    return ClassStats(
        name=name,
        priority=priority,
        weight=weight,
        rules=len(rules),
        wanted=sum(output.wanted for output in outputs),
        sent=sum(output.sent for output in outputs),
        sent_bytes=sum(output.sent_bytes for output in outputs),
        lost=sum(output.lost for output in outputs),
        class_limited=sum(output.dropped.get("class_limited", 0) for output in outputs),
    )
