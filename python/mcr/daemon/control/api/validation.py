"""Validation errors of pydantic in this package's words.

Owns the path and the sentence of each problem, with a suggestion where a name is unknown.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from ....errors import Problem
from .params import InputObject, OutputObject, RuleEntry, RuleObject

_SENTENCES = {
    "missing": "is missing",
    "int_type": "is no whole number",
    "int_from_float": "is no whole number",
    "float_type": "is no number",
    "string_type": "is no text",
    "bool_type": "is neither true nor false",
    "list_type": "is no array",
    "dict_type": "is no object",
    "model_type": "is no object",
    "model_attributes_type": "is no object",
}
_TAGS = {"text", "object", "entry", "int", "str", "literal"}  # pydantic's, not the client's
_MODELS: Mapping[str, type[BaseModel]] = {
    "object": RuleObject,
    "entry": RuleEntry,
    "input": InputObject,
    "outputs": OutputObject,
}


def problems_of(error: ValidationError, model: type[BaseModel] | None) -> list[Problem]:
    """Each problem under a path such as `rule 2, output 1, port`; `model` is what was read.

    Where a field may be of several types, what each of them says becomes one sentence.
    """
    found: dict[str, list[str]] = {}
    for each in error.errors(include_url=False, include_context=True, include_input=False):
        sentence = _sentence(each["type"], each["msg"], each.get("ctx", {}), each["loc"], model)
        sentences = found.setdefault(_path(each["loc"]), [])
        if sentence not in sentences:
            sentences.append(sentence)
    return [Problem(path, " and ".join(sentences)) for path, sentences in found.items()]


def unknown(name: str, known: Sequence[str]) -> str:
    """The sentence about a name that means nothing, with the nearest that does."""
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
        expected = str(context["expected"])
        return f"is none of {expected}" if " or " in expected else f"is not {expected}"
    if kind in {"greater_than_equal", "less_than_equal"}:
        least = "less than" if kind == "greater_than_equal" else "more than"
        return f"is {least} {context.get('ge', context.get('le'))}"
    if kind in {"too_long", "string_too_long"}:
        return f"is longer than {context['max_length']}"
    if kind == "string_too_short":
        return "is empty"
    return _SENTENCES.get(kind, message[:1].lower() + message[1:])


def _fields_at(location: tuple[int | str, ...], model: type[BaseModel] | None) -> list[str]:
    holders = [_MODELS[part] for part in location[:-1] if isinstance(part, str) and part in _MODELS]
    holder = holders[-1] if holders else model
    return list(holder.model_fields) if holder is not None else []


def _path(location: tuple[int | str, ...]) -> str:
    """Lists become counted things, from 1; names of alternatives are left out."""
    parts: list[str] = []
    for part in location:
        if isinstance(part, int):
            noun = parts.pop() if parts else "item"
            parts.append(f"{noun.removesuffix('s')} {part + 1}")
        elif part not in _TAGS:
            parts.append(part)
    return ", ".join(parts)
