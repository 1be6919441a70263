"""Validation errors of pydantic in this package's words.

Owns the path and the sentence of each problem, with a suggestion where a name is unknown.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ....errors import FieldPath, Problem
from ....similar_names import most_similar
from .params import InputObject, OutputObject, RuleEntry, RuleObject

_EXPECTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
"""What a field must be, by the kind of pydantic's error."""
_COMPARED_CHARS = 40  # comparing takes time that grows with the length
_TAGS = {"text", "object", "entry", "int", "str", "literal"}  # names of pydantic, not of clients
_MODELS: Mapping[str, type[BaseModel]] = {
    "object": RuleObject,
    "entry": RuleEntry,
    "input": InputObject,
    "inputs": InputObject,
    "outputs": OutputObject,
}


class _Complaint(NamedTuple):
    """A sentence about a field, without the field."""

    text: str
    """What follows `must be`, or the whole sentence."""
    is_expectation: bool = False
    similar: str | None = None
    """What the value may have been meant to be, of the possible ones."""

    def __str__(self) -> str:
        return f"must be {self.text}" if self.is_expectation else self.text


def problems_of(error: ValidationError, model: type[BaseModel] | None) -> list[Problem]:
    """Return each problem under a path such as `rule 2, output 1, port`.

    Args:
        error: the error of pydantic. The errors of all types that a field may have become one
            sentence.
        model: the model that was validated.
    """
    found: dict[FieldPath, dict[_Complaint, None]] = {}
    for each in error.errors(include_url=False, include_context=True, include_input=True):
        complaint = _complaint(each, model)
        found.setdefault(_path(each["loc"]), {})[complaint] = None
    return [Problem(path, _joined(complaints)) for path, complaints in found.items()]


def unknown(similar: str | None) -> str:
    """The sentence about an unknown name, which suggests the similar one, if there is one."""
    return "is not known" if similar is None else f"is not known; did you mean {similar!r}?"


def _complaint(error: ErrorDetails, model: type[BaseModel] | None) -> _Complaint:
    kind, context = error["type"], error.get("ctx", {})
    expected = _expected(kind, context)
    if expected is not None:
        similar = _similar(error["input"], expected) if kind == "literal_error" else None
        return _Complaint(expected, is_expectation=True, similar=similar)
    if kind == "extra_forbidden":
        location = error["loc"]
        return _Complaint(unknown(most_similar(str(location[-1]), _fields_at(location, model))))
    if kind == "missing":
        return _Complaint("is missing")
    if kind in {"too_long", "string_too_long"}:
        return _Complaint(f"must not be longer than {context['max_length']}")
    if kind == "string_too_short":
        return _Complaint("must not be empty")
    message = error["msg"]
    return _Complaint(message[:1].lower() + message[1:])


def _similar(given: object, expected: str) -> str | None:
    """The one of the quoted words in a sentence that is most similar to a given value."""
    if not isinstance(given, str):
        return None
    return most_similar(given[:_COMPARED_CHARS], re.findall("'([^']*)'", expected))


def _expected(kind: str, context: Mapping[str, Any]) -> str | None:
    """What a field must be; None if the error does not say."""
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "greater_than_equal":
        return f"at least {context['ge']}"
    if kind == "less_than_equal":
        return f"at most {context['le']}"
    return _EXPECTED.get(kind)


def _joined(complaints: Collection[_Complaint]) -> str:
    """One sentence of those about a field: "must be an integer or a string"."""
    if all(each.is_expectation for each in complaints):
        similar = next((each.similar for each in complaints if each.similar), None)
        hint = "" if similar is None else f"; did you mean {similar!r}?"
        return f"must be {' or '.join(each.text for each in complaints)}{hint}"
    return " and ".join(map(str, complaints))


def _fields_at(location: tuple[int | str, ...], model: type[BaseModel] | None) -> list[str]:
    holders = [_MODELS[part] for part in location[:-1] if isinstance(part, str) and part in _MODELS]
    holder = holders[-1] if holders else model
    return list(holder.model_fields) if holder is not None else []


def _path(location: tuple[int | str, ...]) -> FieldPath:
    """The path: elements of lists are counted from 1, names of alternatives omitted."""
    parts: list[str | int] = []
    for part in location:
        if isinstance(part, int):
            noun = parts.pop() if parts else "item"
            parts += [str(noun).removesuffix("s"), part + 1]
        elif part not in _TAGS:
            parts.append(part)
    return tuple(parts)
