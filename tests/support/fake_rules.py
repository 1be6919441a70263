"""What a made-up daemon says of rules: how it reads them, and what it makes up about them."""

from typing import Any

import mcr

Json = dict[str, Any]


class Refusal(Exception):
    """An error of the protocol."""

    def __init__(self, code: int, message: str, data: Json | None = None) -> None:
        self.error: Json = {"code": code, "message": message}
        if data is not None:
            self.error["data"] = data
        super().__init__(message)


def parsed(rules: list[Any], enabled: bool) -> dict[str, tuple[mcr.Rule, bool]]:
    """The rules by id, in any of the forms that the protocol has for them."""
    found: dict[str, tuple[mcr.Rule, bool]] = {}
    problems: list[Json] = []
    for number, item in enumerate(rules, 1):
        wrapped = isinstance(item, dict) and "rule" in item
        given = item["rule"] if wrapped else item
        try:
            rule = mcr.Rule.parse(given) if isinstance(given, str) else from_object(given)
        except mcr.RuleError as error:
            problems += [
                {"field": f"rule {number}, {field}", "message": message}
                for field, message in error.problems
            ]
        else:
            found[rule.id] = (rule, item.get("enabled", enabled) if wrapped else enabled)
    if problems:
        raise Refusal(-32000, "the rules are refused", {"problems": problems})
    return found


def from_object(given: Json) -> mcr.Rule:
    """The rule that an object of the protocol means."""
    source, outputs = dict(given["input"]), [dict(each) for each in given["outputs"]]
    taken = mcr.Input(source.pop("address"), _ports(source.pop("port")), **source)
    made = [mcr.Output(each.pop("address"), _ports(each.pop("port")), **each) for each in outputs]
    return mcr.Rule(taken, made, name=given.get("name"))


def _ports(given: int | str) -> int | range:
    if isinstance(given, int):
        return given
    first, last = map(int, given.split("-"))
    return range(first, last + 1)
