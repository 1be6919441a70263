"""How requests refer to rules: by id, by name, or by a pattern for both and the text."""

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

from ....protocol.constants import ErrorCode
from ..api.errors import RpcError, cut
from .draft import RuleRecord, RuleSetAside

_PATTERN = re.compile(r"[*?[]")


def found_ids(
    refs: Iterable[str],
    known: Callable[[str], str | None],
    rules: Mapping[str, RuleRecord | RuleSetAside],
) -> list[str]:
    """The ids of the rules referred to, each once.

    Args:
        refs: the references.
        known: returns the id of the rule with an id or name; None if there is none.
        rules: those that patterns may match, in their order.

    Raises:
        RpcError: there is no such rule.
    """
    found: dict[str, None] = {}
    missing: list[str] = []
    for ref in refs:
        rule_id = known(ref)
        alike = _matching(ref, rules) if rule_id is None else []
        found |= dict.fromkeys(alike)
        if rule_id is None and not alike:
            missing.append(ref)
        elif rule_id is not None:
            found[rule_id] = None
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        message = f"there is no rule with the id or name {cut(missing[0])!r}{more}"
        raise RpcError(ErrorCode.NO_SUCH_RULE, message)
    return list(found)


def aside_with(ref: str, aside: Mapping[str, RuleSetAside]) -> str | None:
    """The id of the rule set aside that has this id or name; None if there is none."""
    if ref in aside:
        return ref
    return next((each for each, own in aside.items() if own.rule.name == ref), None)


def _matching(pattern: str, rules: Mapping[str, RuleRecord | RuleSetAside]) -> list[str]:
    if not _PATTERN.search(pattern):
        return []
    return [
        each
        for each, own in rules.items()
        if any(fnmatchcase(text, pattern) for text in (own.rule.name or "", each, str(own.rule)))
    ]
