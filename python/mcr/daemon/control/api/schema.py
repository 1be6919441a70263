"""The protocol as JSON Schema; `python -m mcr.daemon.control.api.schema` prints it."""

import json
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from ....alarms.event import Event
from ....protocol.constants import PROTOCOL, ErrorCode
from ..events import EventFields
from .method_types import METHOD_TYPES
from .params import Request

_HEAD = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "mcr control protocol",
    "description": "JSON-RPC 2.0 over a Unix socket, one object to a line.",
    "protocol": PROTOCOL,
}


def schema() -> dict[str, Any]:
    """The schema of all methods' parameters and results and of events."""
    parts: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        ("request", "validation", TypeAdapter(Request)),
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
