"""New rules beside those that exist already: what stays as it was, and names that are taken."""

from collections.abc import Container, Iterator, Mapping, Sequence

from ....errors import Problem, RuleError
from ....rules import Rule
from .draft import RuleRecord, RuleSetAside
from .entries import EnabledRule


def differences(entry: EnabledRule, kept: RuleRecord | RuleSetAside) -> Iterator[str]:
    """Sentences about the differences between an added rule and the kept one."""
    if entry.rule.name is not None and entry.rule.name != kept.rule.name:
        name = (
            "stays without a name"
            if kept.rule.name is None
            else f"keeps its name {kept.rule.name!r}"
        )
        yield f"already exists and {name}"
    if entry.rule.expect is not None and entry.rule.expect != kept.rule.expect:
        yield f"already exists and keeps expect={kept.rule.expect or 'the default'}"
    if entry.rule.traffic_class not in (None, kept.rule.traffic_class):
        yield f"already exists and keeps class={kept.rule.traffic_class or 'default'}"
    if entry.enabled != kept.enabled:
        yield f"already exists and stays {'enabled' if kept.enabled else 'disabled'}"


def check_names(
    rules: Sequence[Rule], aside: Mapping[str, RuleSetAside], keep: Container[str]
) -> None:
    """Refuse a name or an id by which a rule that is set aside is found."""
    added = {rule.id for rule in rules if rule.id not in keep}
    waiting = {each: own for each, own in aside.items() if each not in added}
    names: dict[str | None, str] = {
        own.rule.name: each for each, own in waiting.items() if own.rule.name is not None
    }
    problems = []
    for number, rule in enumerate(rules, 1):
        if names.get(rule.name, rule.id) != rule.id:
            text = f"{rule.name!r} is the name of a rule that does not fit this host now"
            problems.append(Problem(("rule", number, "name"), f"{text}; choose another"))
        elif rule.name in waiting and rule.name != rule.id:
            text = f"{rule.name!r} is the id of a rule that does not fit this host now"
            problems.append(Problem(("rule", number, "name"), f"{text}; choose another"))
        if names.get(rule.id, rule.id) != rule.id:
            text = f"has the id {rule.id!r}, which is the name of a rule that waits"
            problems.append(Problem(("rule", number), f"{text}; give that one another name"))
    if problems:
        raise RuleError(problems)
