"""Requested changes of classes and rates of interfaces as values, and these as an answer."""

from collections import Counter
from collections.abc import Iterable

from ....errors import Problem, RuleError
from ....protocol.results import ClassInfo, InterfaceRateInfo, ShapingInfo
from ....rules import Rule
from ....rules.shaping import DEFAULT_CLASS, InterfaceRate, Shaping, TrafficClass
from ..api.params import ClassObject, ShapingTables


def shaping_from(tables: ShapingTables, before: Shaping) -> Shaping:
    """The classes and rates after a change.

    Args:
        tables: what changes.
        before: the classes and rates until then.

    Raises:
        RuleError: with all problems.
    """
    shaping, problems = before, list[Problem]()
    for name, given in tables.classes.items():
        try:
            if given is None:
                shaping = shaping.without_class(name)
            else:
                shaping = shaping.with_class(_class(name, given, before))
        except RuleError as error:
            problems += _under("class", name, error)
    for name, own in tables.interfaces.items():
        try:
            if own is None:
                shaping = shaping.without_rate(name)
            else:
                shaping = shaping.with_rate(InterfaceRate(name, own.rate, own.burst))
        except RuleError as error:
            problems += _under("interface", name, error)
    if problems:
        raise RuleError(problems)
    return shaping


def shaping_info(
    revision: int, shaping: Shaping, rules: Iterable[Rule], warnings: tuple[str, ...] = ()
) -> ShapingInfo:
    """The answer about classes and rates, with how many of these rules are in each class."""
    users = Counter(rule.traffic_class or DEFAULT_CLASS for rule in rules)
    ranked = sorted(shaping.classes.values(), key=lambda each: -each.priority)
    return ShapingInfo(
        revision,
        tuple(ClassInfo(one.name, one.priority, one.weight, users[one.name]) for one in ranked),
        tuple(
            InterfaceRateInfo(one.interface, one.rate, one.burst) for one in shaping.rates.values()
        ),
        warnings,
    )


def _under(noun: str, name: str, error: RuleError) -> list[Problem]:
    """The problems of one class or interface under its name."""
    return [
        Problem((noun, name, *(part for part in each.path if part != noun)), each.message)
        for each in error.problems
    ]


def _class(name: str, given: ClassObject, before: Shaping) -> TrafficClass:
    known = before.classes.get(name) or TrafficClass(name)
    priority = known.priority if given.priority is None else given.priority
    weight = known.weight if given.weight is None else given.weight
    return TrafficClass(name, priority, weight)
