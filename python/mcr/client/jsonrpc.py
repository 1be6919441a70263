"""Lines of JSON-RPC 2.0: requests to bytes, and any bytes to answers, notifications or an error.

Pure. Whatever the other side sends, this raises `Malformed` or gives a value of a known shape.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ..errors import (
    ConflictError,
    DaemonError,
    EngineError,
    InterfaceError,
    McrError,
    RightsError,
    RuleError,
)
from ..json_reader import Shape, ShapeError
from ..protocol.constants import LINE_BYTES, ErrorCode

_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_SENTENCES: Mapping[int, type[McrError]] = {
    ErrorCode.INTERFACE: InterfaceError,
    ErrorCode.RIGHTS: RightsError,
    ErrorCode.WORKER_FAILED: EngineError,
}


class Malformed(Exception):
    """What came is not of the protocol; the text says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request."""

    id: int | None
    """None where the daemon could not read the request's."""
    result: Any = None
    error: McrError | None = None


@dataclass(frozen=True, slots=True)
class Notification:
    """What the daemon says unasked."""

    method: str
    params: Any


def request_line(number: int, method: str, params: Mapping[str, Any]) -> bytes:
    """One request as it is sent.

    Raises:
        McrError: it would be longer than the daemon takes.
        TypeError, ValueError: a parameter is nothing that JSON can hold.
    """
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    text = json.dumps(message, separators=(",", ":"), allow_nan=False)
    if len(text) >= LINE_BYTES:
        raise McrError(
            f"the request is of {len(text)} bytes, and a daemon takes {LINE_BYTES}: ask for fewer"
            " rules at once"
        )
    return text.encode() + b"\n"


def read_line(line: bytes) -> Answer | Notification:
    """What one line says.

    Raises:
        Malformed: nothing that the protocol knows.
    """
    try:
        message = json.loads(
            str(line, "utf-8"), parse_float=_finite, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise Malformed("with JSON that is nested too deeply") from None
    except ValueError:
        raise Malformed("with what is not JSON") from None
    try:
        return _message(Shape(message))
    except ShapeError as error:
        raise Malformed(f"with what is not JSON-RPC 2.0: {error}") from None


def _message(given: Shape) -> Answer | Notification:
    fields = given.plain()
    if fields.get("jsonrpc") != "2.0":
        raise ShapeError("jsonrpc is not '2.0'")
    if "method" in fields:
        return Notification(given.get("method", str), fields.get("params"))
    if "id" not in fields:
        raise ShapeError("there is neither method nor id")
    number = given.maybe("id", int)
    if "error" in fields:
        return Answer(number, error=_error(given.nested("error")))
    if "result" not in fields:
        raise ShapeError("there is neither result nor error")
    return Answer(number, result=fields["result"])


def _error(given: Shape) -> McrError:
    """The exception that an error of the protocol is."""
    code, message = given.get("code", int), _printable(given.get("message", str))
    if code == ErrorCode.REVISION_CONFLICT:
        data = given.nested("data")
        return ConflictError(expected=data.count("expected"), actual=data.count("actual"))
    problems = _problems(given)
    if code in (ErrorCode.RULE_REFUSED, ErrorCode.NO_SUCH_RULE):
        return RuleError(problems or message)
    if code in _SENTENCES:
        return _SENTENCES[code](message)
    details = [f"{field}: {text}" if field else text for field, text in problems]
    untold = [each for each in details if each not in message]
    return DaemonError("; ".join([message, *untold]))


def _problems(given: Shape) -> list[tuple[str, str]]:
    if not given.has("data") or not given.nested("data").has("problems"):
        return []
    return [
        (_printable(problem.get("field", str)), _printable(problem.get("message", str)))
        for problem in given.nested("data").objects("problems")
    ]


def _printable(text: str) -> str:
    """The text without what would move a terminal's cursor, or cannot be written at all."""
    return _UNFIT.sub("\ufffd", text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
