"""Validation errors of pydantic in this package's words.

Owns the path and the sentence of each problem, with a suggestion where a name is unknown.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from ....errors import Problem
from .params import InputObject, OutputObject, RuleEntry, RuleObject

_MUST_BE = "must be "
_SENTENCES = {
    "missing": "is missing",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "list_type": "must be an array",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}
_TAGS = {"text", "object", "entry", "int", "str", "literal"}  # names of pydantic, not of clients
_MODELS: Mapping[str, type[BaseModel]] = {
    "object": RuleObject,
    "entry": RuleEntry,
    "input": InputObject,
    "outputs": OutputObject,
}


def problems_of(error: ValidationError, model: type[BaseModel] | None) -> list[Problem]:
    """Return each problem under a path such as `rule 2, output 1, port`.

    Args:
        error: the error of pydantic. The errors of all types that a field may have become one
            sentence.
        model: the model that was validated.
    """
    found: dict[str, list[str]] = {}
    for each in error.errors(include_url=False, include_context=True, include_input=False):
        sentence = _sentence(each["type"], each["msg"], each.get("ctx", {}), each["loc"], model)
        sentences = found.setdefault(_path(each["loc"]), [])
        if sentence not in sentences:
            sentences.append(sentence)
    return [Problem(path, _joined(sentences)) for path, sentences in found.items()]


def unknown(name: str, known: Sequence[str]) -> str:
    """The sentence about an unknown name, with a suggestion of a similar known one."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"is not known{hint}"


def _sentence(
    kind: str,
    message: str,
    context: Mapping[str, Any],
    location: tuple[int | str, ...],
    model: type[BaseModel] | None,
) -> str:
    if kind == "extra_forbidden":
        return unknown(str(location[-1]), _fields_at(location, model))
    if kind == "literal_error":
        return f"must be {context['expected']}"
    if kind == "greater_than_equal":
        return f"must be at least {context['ge']}"
    if kind == "less_than_equal":
        return f"must be at most {context['le']}"
    if kind in {"too_long", "string_too_long"}:
        return f"must not be longer than {context['max_length']}"
    if kind == "string_too_short":
        return "must not be empty"
    return _SENTENCES.get(kind, message[:1].lower() + message[1:])


def _joined(sentences: Sequence[str]) -> str:
    """One sentence of those about a field: "must be an integer or a string"."""
    if all(sentence.startswith(_MUST_BE) for sentence in sentences):
        return _MUST_BE + " or ".join(each.removeprefix(_MUST_BE) for each in sentences)
    return " and ".join(sentences)


def _fields_at(location: tuple[int | str, ...], model: type[BaseModel] | None) -> list[str]:
    holders = [_MODELS[part] for part in location[:-1] if isinstance(part, str) and part in _MODELS]
    holder = holders[-1] if holders else model
    return list(holder.model_fields) if holder is not None else []


def _path(location: tuple[int | str, ...]) -> str:
    """The path as text: elements of lists are counted from 1, names of alternatives omitted."""
    parts: list[str] = []
    for part in location:
        if isinstance(part, int):
            noun = parts.pop() if parts else "item"
            parts.append(f"{noun.removesuffix('s')} {part + 1}")
        elif part not in _TAGS:
            parts.append(part)
    return ", ".join(parts)
