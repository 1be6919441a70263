"""The method `explain`: what the running rules would do with datagrams."""

from collections.abc import Callable, Iterable
from ipaddress import ip_address

from ....alarms.troubles import Trouble
from ....choices import Ingress
from ....errors import RuleError
from ....explain.explainer import Obstacles, RuleExplainer
from ....explain.results import DatagramFacts, Explanation
from ....protocol.constants import ErrorCode
from ....rules.shaping import Shaping
from ..rules.draft import RuleRecord
from .errors import RpcError, with_problems
from .params import DatagramObject


def explanations(
    rules: Iterable[RuleRecord],
    ingress: Ingress,
    troubles: Callable[[str], Trouble],
    shaping: Shaping,
    datagrams: Iterable[DatagramObject],
) -> tuple[Explanation, ...]:
    """Explain each datagram; for any thread.

    Raises:
        RpcError: a datagram is invalid.
    """

    def obstacles(rule_id: str) -> Obstacles:
        trouble, parked, _ = troubles(rule_id)
        return (None if trouble is None else trouble.reason), parked

    explainer = RuleExplainer(rules, ingress, obstacles, shaping)
    found = []
    for number, given in enumerate(datagrams, 1):
        try:
            found.append(explainer.explain(_facts(given)))
        except RuleError as error:
            problems = [each.under("datagram", number) for each in error.problems]
            raise with_problems(ErrorCode.INVALID_PARAMS, "explain", problems) from None
    return tuple(found)


def _facts(given: DatagramObject) -> DatagramFacts:
    try:
        source = None if given.source is None else ip_address(given.source)
        group = ip_address(given.group)
    except ValueError as error:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"explain: {error}") from None
    rest = given.model_dump(exclude={"source", "group"})
    return DatagramFacts(group=group, source=source, **rest)
