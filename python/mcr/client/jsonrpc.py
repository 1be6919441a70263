"""Messages of JSON-RPC 2.0 as lines: encodes requests, parses responses and notifications.

Pure. Any bytes become a value of a known type, or raise `Malformed`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from ..errors import (
    ArgumentError,
    ConflictError,
    DaemonError,
    EngineError,
    InterfaceError,
    McrError,
    RightsError,
    RuleError,
)
from ..json_codec import Count, JsonError, JsonObject, decode
from ..protocol.constants import LINE_BYTES, ErrorCode
from ..protocol.text import printable

T = TypeVar("T")
_SENTENCES: Mapping[int, type[McrError]] = {
    ErrorCode.INTERFACE: InterfaceError,
    ErrorCode.RIGHTS: RightsError,
    ErrorCode.WORKER_FAILED: EngineError,
}


class Malformed(Exception):
    """A line is not a message of the protocol; the text names it, as an object of "sent"."""


@dataclass(frozen=True, slots=True)
class Response(Generic[T]):
    """The answer to one request: its result or an error."""

    id: int | None
    """None if the daemon could not read the id of the request."""
    result: T | None = None
    error: McrError | None = None


@dataclass(frozen=True, slots=True)
class Notification:
    """A message of the daemon that answers no request."""

    method: str
    params: Any


@dataclass(frozen=True, slots=True)
class _ProblemObject(JsonObject):
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class _ErrorData(JsonObject):
    problems: tuple[_ProblemObject, ...] = ()
    expected: Count | None = None
    actual: Count | None = None


@dataclass(frozen=True, slots=True)
class _ErrorObject(JsonObject):
    code: int
    message: str
    data: _ErrorData | None = None


@dataclass(frozen=True, slots=True)
class _RpcMessage(JsonObject, Generic[T]):
    """Any message of JSON-RPC 2.0; an absent member counts as null."""

    jsonrpc: Literal["2.0"]
    id: int | None = None
    method: str | None = None
    params: Any = None
    result: T | None = None
    error: _ErrorObject | None = None


def request_line(number: int, method: str, params: Mapping[str, Any]) -> bytes:
    """Encode a request as a line.

    Raises:
        McrError: the line is longer than the daemon accepts.
        ArgumentError: JSON cannot represent a parameter.
    """
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    try:
        text = json.dumps(message, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"{method}: JSON cannot hold an argument: {error}") from None
    if len(text) >= LINE_BYTES:
        raise McrError(
            f"the request has {len(text)} bytes, and the daemon accepts {LINE_BYTES}: send fewer"
            " rules at once"
        )
    return text.encode() + b"\n"


def read_line(line: bytes, result: type[T]) -> Response[T] | Notification:
    """Parse a line.

    Args:
        line: the line without its line feed.
        result: the type of the result, if the line is a response with one.

    Raises:
        Malformed: the line is not a message of the protocol.
    """
    try:
        message: _RpcMessage[T] = decode(_RpcMessage[result], line)  # type: ignore[valid-type]
    except JsonError as error:
        raise Malformed(f"a malformed message: {error}") from None
    if message.method is not None:
        return Notification(message.method, message.params)
    if message.error is not None:
        return Response(message.id, error=_exception(message.error))
    if message.result is None:
        raise Malformed("a message without method, result or error")
    return Response(message.id, message.result)


def _exception(error: _ErrorObject) -> McrError:
    """The exception for an error of the protocol."""
    message, data = printable(error.message), error.data or _ErrorData()
    if error.code == ErrorCode.REVISION_CONFLICT:
        if data.expected is None or data.actual is None:
            raise Malformed("a revision conflict without the revisions")
        return ConflictError(expected=data.expected, actual=data.actual)
    problems = [(printable(each.field), printable(each.message)) for each in data.problems]
    if error.code in (ErrorCode.RULE_REFUSED, ErrorCode.NO_SUCH_RULE):
        return RuleError(problems or message)
    if error.code in _SENTENCES:
        return _SENTENCES[error.code](message)
    more = (f"{field}: {text}" if field else text for field, text in problems[1:])
    kind = ArgumentError if error.code == ErrorCode.INVALID_PARAMS else DaemonError
    return kind("; ".join([message, *more]))  # the first problem is in the message
