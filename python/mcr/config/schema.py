"""The configuration file as JSON Schema (draft 7, which editors know), from the tables of keys."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..rules import fields
from . import keys
from .keys import Key

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}


def schema() -> Schema:
    """The schema of a main file; an included one has fewer keys."""
    places = {
        "include": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]},
        "daemon": _table(keys.DAEMON),
        "defaults": _table(
            keys.DEFAULTS,
            input=_table(keys.INPUT_DEFAULTS),
            output=_table(keys.OUTPUT_DEFAULTS),
        ),
        "classes": {"type": "object", "additionalProperties": _table(keys.CLASS)},
        "interfaces": {
            "type": "object",
            "additionalProperties": _table(keys.INTERFACE, required=("rate",)),
        },
        "rules": {"type": "array", "items": {"anyOf": [_TEXT, _reference("rule")]}},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "The configuration file of mcr",
        **_table(keys.FILE, **places),
        "definitions": {
            "input": _table(keys.INPUT, required=("address", "port")),
            "output": _table(keys.OUTPUT, required=("address", "port")),
            "rule": _rule(),
        },
    }


def text() -> str:
    """The content of docs/configuration.schema.json."""
    return json.dumps(schema(), indent=1) + "\n"


def _rule() -> Schema:
    whole = _table(
        keys.RULE,
        rule={"anyOf": [_TEXT, _reference("rule")]},
        input={"anyOf": [_TEXT, _reference("input")]},
        inputs={
            "type": "array",
            "minItems": 1,
            "maxItems": fields.INPUT_LIMIT,
            "items": {"anyOf": [_TEXT, _reference("input")]},
        },
        outputs={
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [_TEXT, _reference("output")]},
        },
        **{
            "for": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "anyOf": [
                        {"type": "string", "pattern": "^[0-9]+-[0-9]+$"},
                        {"type": "array", "minItems": 1, "items": {"type": ["integer", "string"]}},
                    ]
                },
            }
        },
    )
    forms = (["rule"], ["input", "outputs"], ["inputs", "outputs"])
    return {**whole, "oneOf": [{"required": each} for each in forms]}


def _table(known: Mapping[str, Key], required: Iterable[str] = (), **parts: Schema) -> Schema:
    """The schema of a table; `parts` are those of keys whose own schema is not told."""
    properties = {
        name: {"description": key.meaning, **(parts.get(name) or key.schema)}
        for name, key in known.items()
    }
    table: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**table, "required": list(required)} if required else table


def _reference(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}
