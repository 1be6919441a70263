"""The protocol as JSON Schema; `python -m mcr.daemon.control.api.schema` prints it."""

import ast
import inspect
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from ....alarms.event import Event
from ....protocol.constants import PROTOCOL, ErrorCode
from ..events import EventFields
from . import params
from .method_types import METHOD_TYPES

_HEAD = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "mcr control protocol",
    "description": "JSON-RPC 2.0 over a Unix socket, one object to a line.",
    "protocol": PROTOCOL,
}


def schema() -> dict[str, Any]:
    """The schema of all methods' parameters and results and of events."""
    for each in vars(params).values():  # in their order, as later ones contain earlier ones
        if isinstance(each, type) and issubclass(each, params.Params):
            _describe(each)
    parts: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        ("request", "validation", TypeAdapter(params.Request)),
        ("event", "serialization", TypeAdapter(Event)),
        ("event fields", "serialization", TypeAdapter(EventFields)),
    ]
    for name, types in METHOD_TYPES.items():
        parts.append((f"{name} params", "validation", TypeAdapter(types.params)))
        parts.append((f"{name} result", "serialization", TypeAdapter(types.result)))
    schemas, shared = TypeAdapter.json_schemas(parts)
    by_name = {name: part for (name, _mode), part in schemas.items()}
    methods = {
        name: {"params": by_name[f"{name} params"], "result": by_name[f"{name} result"]}
        for name in METHOD_TYPES
    }
    return {
        **_HEAD,
        "methods": methods,
        "request": by_name["request"],
        "event": by_name["event"],
        "errors": {code.name.lower(): int(code) for code in ErrorCode},
        "$defs": _with_flat_events(shared["$defs"]),
    }


def _describe(model: type[params.Params]) -> None:
    """Describe fields by the texts below them.

    pydantic does it too, but at every start of the daemon, which takes it a tenth of its time.
    """
    for base in reversed(model.__mro__[: model.__mro__.index(params.Params)]):
        for name, text in _texts_below(base):
            model.model_fields[name].description = text
    model.model_rebuild(force=True)


def _texts_below(kind: type[object]) -> Iterator[tuple[str, str]]:
    """The fields that a class itself defines and describes, each with its text."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    for field, below in pairwise(definition.body):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, inspect.cleandoc(text)


def _with_flat_events(definitions: dict[str, Any]) -> dict[str, Any]:
    """The definitions, with the fields of an event among its other members, as in its JSON."""
    fields, event = definitions.pop("EventFields"), definitions["Event"]
    properties = event["properties"] | fields["properties"]
    del properties["fields"]
    required = [name for name in event["required"] if name != "fields"]
    return definitions | {"Event": event | {"properties": properties, "required": required}}


def text() -> str:
    """The content of docs/protocol.schema.json."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(text(), end="")
