"""Rules for lists of values: one rule of the file becomes one for each value of its names.

    for = { n = "1-20" }
    rule = "239.1.1.{n}%eth0:5001,name=channel-{n:2} to 239.2.1.{n}%eth1:{n+6000}"

`{n+6000}` adds to a number, and `{n:2}` writes it with two digits at least.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import FieldPath, RuleError
from ..rules.fields import Invalid

LIMIT = 50_000
"""The most rules that one becomes."""

_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})", re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_PLACE = re.compile(r"\{([^{}]*)\}")
_REFERENCE = re.compile(r"([A-Za-z][A-Za-z0-9_]*)([+-]\d{1,9})?(?::([1-9]))?", re.ASCII)
_FORM = 'write such as for = { n = "1-20" } or for = { group = ["239.1.1.1", "239.1.1.9"] }'

Values = Mapping[str, int | str]
"""The value of each name in one of the rules."""


def values_of(given: object) -> list[Values]:
    """The values of the names in each rule; several names advance together.

    Raises:
        Invalid: with one sentence.
    """
    if not isinstance(given, dict) or not given:
        raise Invalid(f"must be a table that gives names their values; {_FORM}")
    columns = {name: _column(name, value) for name, value in given.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise Invalid(f"needs as many values for each name: {told}")
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def expand(value: Any, values: Values, path: FieldPath = ()) -> Any:  # noqa: ANN401 -- any TOML
    """The value with each `{name}` in its texts replaced; a text that is nothing else keeps a type.

    Args:
        value: the template.
        values: the value of each name.
        path: the field of the rule that the template is for.

    Raises:
        RuleError: a text has a name without a value, or adds to a text.
    """
    if isinstance(value, str):
        try:
            return _expand_text(value, values)
        except Invalid as error:
            raise RuleError([(path, str(error))]) from None
    if isinstance(value, dict):
        return {key: expand(each, values, (*path, key)) for key, each in value.items()}
    if isinstance(value, list):
        *before, last = path or ("items",)
        noun = str(last).removesuffix("s")
        return [
            expand(each, values, (*before, noun, number)) for number, each in enumerate(value, 1)
        ]
    return value


def row_words(values: Values) -> str:
    """The values of a rule as a message names them, such as `` for n = 3``; empty without any."""
    told = " and ".join(f"{name} = {value}" for name, value in values.items())
    return f" for {told}" if told else ""


def _column(name: str, value: object) -> Sequence[int | str]:
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} is no name; write letters, digits and _, a letter first")
    if isinstance(value, str) and (found := _RANGE.fullmatch(value)):
        first, last = int(found[1]), int(found[2])
        if first > last:
            raise Invalid(f"{name}: {value!r} is in reverse order; write {last}-{first}")
        if last - first >= LIMIT:
            raise Invalid(f"{name}: {value!r} has more than {LIMIT} values")
        return range(first, last + 1)
    items: list[Any] = value if isinstance(value, list) else []
    if not 0 < len(items) <= LIMIT or any(type(each) not in (int, str) for each in items):
        raise Invalid(f"{name}: must be a range or an array of numbers and texts; {_FORM}")
    return items


def _expand_text(text: str, values: Values) -> int | str:
    whole = _PLACE.fullmatch(text)
    if whole is not None:
        return _value_at(whole, values)
    return _PLACE.sub(lambda place: str(_value_at(place, values)), text)


def _value_at(place: re.Match[str], values: Values) -> int | str:
    found = _REFERENCE.fullmatch(place[1])
    if found is None or found[1] not in values:
        names = ", ".join(values)
        raise Invalid(f"{place[0]!r} is no name of for, which has {names}")
    value = values[found[1]]
    if found[2] is None and found[3] is None:
        return value
    if not isinstance(value, int):
        raise Invalid(f"{place[0]!r} needs a number, and {found[1]} is {value!r}")
    number = value + int(found[2] or 0)
    return number if found[3] is None else f"{number:0{found[3]}}"
