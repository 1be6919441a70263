"""Conversion of frozen dataclasses to JSON objects, and back.

pydantic converts values by their types alone. It is loaded at the first value, since a program that
only relays does not need it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from .errors import McrError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, TypeAdapter, ValidationError

T = TypeVar("T")
_PATH_CHARS = 40


class JsonError(McrError, ValueError):
    """A text is not JSON of the expected form; the message names the member by its path."""


class JsonObject:
    """A dataclass that is a JSON object: each field is a member of the same name.

    Types are exact: a number in quotes is not a number. Unknown members are ignored, since a newer
    writer may add some.
    """

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "strict": True,
        "allow_inf_nan": False,
        "serialize_by_alias": True,
        "json_schema_serialization_defaults_required": True,
    }

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object, as `json.dumps` accepts it."""
        members: dict[str, Any] = adapter_of(type(self)).dump_python(self, mode="json")
        return members


class _AtLeastZero:
    """The range of a count, for pydantic; no other library has to be loaded to name it."""

    def __get_pydantic_core_schema__(
        self, source: type[int], handler: "GetCoreSchemaHandler"
    ) -> dict[str, Any]:
        return {**handler(source), "ge": 0}


Count = Annotated[int, _AtLeastZero()]
"""An integer that is not negative."""


class Growing:
    """For pydantic: a literal of a list that grows; words of later versions are accepted too."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: "GetCoreSchemaHandler"
    ) -> dict[str, Any]:
        return {
            "type": "union",
            "choices": [handler(source), {"type": "str"}],
            "mode": "left_to_right",
        }

    def __get_pydantic_json_schema__(
        self, schema: dict[str, Any], handler: "Callable[[Any], dict[str, Any]]"
    ) -> dict[str, Any]:
        return handler(schema["choices"][0])


def encode(value: JsonObject) -> bytes:
    """JSON without spaces, in printable ASCII, as `json.dumps` writes it."""
    text: bytes = adapter_of(type(value)).dump_json(value, ensure_ascii=True)
    return text.replace(b"\x7f", rb"\u007f")


def encode_in_pieces(value: JsonObject, name: str) -> Iterator[bytes]:
    """Like `encode`, with each item of the list `name` as a separate piece.

    So thousands of items need no single block of memory, and other threads run in between.
    """
    mark = b'"%s":[' % name.encode()
    # Quotes in strings follow a backslash, so that this text can only be the member.
    head, _, tail = encode(replace(value, **{name: ()})).partition(mark + b"]")  # type: ignore[type-var]
    yield head + mark
    for number, item in enumerate(getattr(value, name)):
        yield b"," + encode(item) if number else encode(item)
    yield b"]" + tail


def decode(kind: type[T], text: bytes | str) -> T:
    """The value that a JSON text holds.

    Raises:
        JsonError: it is not JSON, or not the form of this type.
    """
    from pydantic import ValidationError  # noqa: PLC0415 -- at the first use

    try:
        value: T = adapter_of(kind).validate_json(text)
    except ValidationError as error:
        raise JsonError(_sentence(error)) from None
    return value


def decode_object(kind: type[T], value: object) -> T:
    """The value that a JSON object holds which has been parsed already, as by `json.loads`.

    Raises:
        JsonError: it does not have the form of this type.
    """
    from pydantic_core import PydanticSerializationError, to_json  # noqa: PLC0415 -- as above

    try:
        text = to_json(value)
    except PydanticSerializationError as error:
        raise JsonError(str(error)) from None
    return decode(kind, text)


def _new_adapter(kind: Any) -> "TypeAdapter[Any]":  # noqa: ANN401 -- any type
    from pydantic import TypeAdapter  # noqa: PLC0415 -- as above

    return TypeAdapter(kind)


adapter_of: "Callable[[Any], TypeAdapter[Any]]" = cache(_new_adapter)
"""What reads and writes values of a type, built at the first use, which takes milliseconds."""


def _sentence(error: "ValidationError") -> str:
    """The first problem, under a path such as `rules[0].outputs[1].sent`."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = ""
    for part in first["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif "[" not in part:  # else one of pydantic's own words, which names no member
            path += f".{_shown(part)}" if path else _shown(part)
    message = first["msg"]
    message = message[:1].lower() + message[1:]
    return f"{path}: {message}" if path else message


def _shown(name: str) -> str:
    """The name of a member as a message shows it: the other side may have sent anything."""
    text = name if name.isidentifier() else ascii(name)
    return text if len(text) <= _PATH_CHARS else f"{text[:_PATH_CHARS]}..."
