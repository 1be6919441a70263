"""As many rules as fit this host and each other, where those that do not must not stop them."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from ....errors import Problem, RuleError
from ....rules.ruleset import RulePlan

T = TypeVar("T")


def plan_fitting(
    given: Sequence[T], plan: Callable[[Sequence[T]], RulePlan]
) -> tuple[RulePlan, list[tuple[T, str]]]:
    """Plan a change with as many of the given rules as fit.

    Returns:
        The plan, and the rules that it leaves out, each with its first problem.

    Raises:
        RuleError: a problem that concerns no single rule.
    """
    fitting, refused = list(given), list[tuple[T, str]]()
    while True:
        try:
            return plan(fitting), refused
        except RuleError as error:
            problems = _first_problems(error)
            if not problems:
                raise
            refused += [(fitting[at], why) for at, why in problems.items()]
            fitting = [each for at, each in enumerate(fitting) if at not in problems]


def _first_problems(error: RuleError) -> dict[int, str]:
    """The first problem of each rule, by the index of the rule."""
    found: dict[int, str] = {}
    for problem in error.problems:
        match problem.path:
            case ("rule", int(number), *rest):
                found.setdefault(number - 1, str(Problem(tuple(rest), problem.message)))
    return found
