"""JSON-RPC 2.0 over lines: parses a line into requests and encodes their results as one line.

Owns batches, notifications and the shape of errors. Does no input or output.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from .... import json_codec
from ....errors import McrError
from ....json_codec import JsonObject
from ....log_levels import NUMBERS, logger_of
from ....protocol.constants import LINE_BYTES, ErrorCode
from ....similar_names import most_similar
from .. import limits
from .decoding import read_json
from .errors import RpcError, cut, rpc_error_from, with_problems
from .params import Request
from .pydantic_problems import problems_of, unknown

Caller = TypeVar("Caller")
Pieces = list[bytes]
"""An answer in pieces, so that a long one never needs a single block of memory."""

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_log = logger_of("control")
_security = logger_of("security")


class Encoded(list[bytes]):
    """A result already encoded as JSON, in pieces."""


Result = JsonObject | Encoded


@dataclass(frozen=True, slots=True)
class Method(Generic[Caller]):
    """The type of a method's parameters, and the function that serves it."""

    params: type[BaseModel]
    serve: Callable[[Caller, Any], Awaitable[Result]]
    """Called with the caller and the parameters."""
    refusal: str | None = None
    """Why these callers may not use the method; None if they may."""


class Dispatcher(Generic[Caller]):
    """Answers lines by calling the methods of a table."""

    def __init__(self, methods: Mapping[str, Method[Caller]]) -> None:
        """Serve these methods, by name."""
        self._methods = methods
        self._big_lines = asyncio.Lock()

    async def answer(self, line: bytes, caller: Caller) -> Pieces | None:
        """Answer a line; None if it has only notifications, which get no answer.

        Returns:
            One line with its line feed.
        """
        try:
            value = await self._read(line)
        except RpcError as error:
            return [*_failure(None, error), b"\n"]
        if not isinstance(value, list):
            answer = await self._answer_one(value, caller)
            return None if answer is None else [*_bounded(answer, LINE_BYTES - 1), b"\n"]
        return await self._answer_batch(value, caller)

    async def _read(self, line: bytes) -> object:
        if len(line) <= limits.BIG_LINE_BYTES:
            return read_json(line)
        # One at a time, each followed by a pause for other clients that is as long as the parsing.
        async with self._big_lines:
            began_s = time.monotonic()
            try:
                return read_json(line)
            finally:
                await asyncio.sleep(time.monotonic() - began_s)

    async def _answer_batch(self, values: list[object], caller: Caller) -> Pieces | None:
        if not 0 < len(values) <= limits.BATCH_REQUESTS:
            message = f"a batch has 1 to {limits.BATCH_REQUESTS} requests, not {len(values)}"
            code = ErrorCode.LIMIT if values else ErrorCode.INVALID_REQUEST
            return [*_failure(None, RpcError(code, message)), b"\n"]
        pieces: Pieces = []
        left_bytes = LINE_BYTES - len(values) * 2 - 2
        for value in values:
            answer = await self._answer_one(value, caller)
            if answer is not None:
                answer = _bounded(answer, left_bytes)
                left_bytes -= sum(map(len, answer))
                pieces += [b"," if pieces else b"[", *answer]
            await asyncio.sleep(0)
        return [*pieces, b"]\n"] if pieces else None

    async def _answer_one(self, value: object, caller: Caller) -> Pieces | None:
        request_id = _id_of(value)
        try:
            request = _request(value)
        except RpcError as error:
            return _failure(request_id, error)
        wants_answer = isinstance(value, dict) and "id" in value
        try:
            result = await self._serve(request, caller)
        except RpcError as error:
            logger = _security if error.code == ErrorCode.RIGHTS else _log
            logger.debug("%s refused: %s", cut(request.method), error.message)
            return _failure(request_id, error) if wants_answer else None
        return _success(request_id, result) if wants_answer else None

    async def _serve(self, request: Request, caller: Caller) -> Result:
        method = self._methods.get(request.method)
        if method is None:
            raise self._unknown_method(request.method)
        if method.refusal is not None:
            raise RpcError(ErrorCode.RIGHTS, method.refusal)
        try:
            params = method.params.model_validate(request.params)
        except ValidationError as error:
            problems = problems_of(error, method.params)
            raise with_problems(ErrorCode.INVALID_PARAMS, request.method, problems) from None
        _log.log(NUMBERS["trace"], "serves the request %s", request.method)
        try:
            return await method.serve(caller, params)
        except McrError as error:
            raise rpc_error_from(error) from None
        except (RpcError, asyncio.CancelledError):
            raise
        except Exception as error:
            _log.exception("%s failed", request.method)
            message = f"{request.method} failed inside the daemon: {type(error).__name__}"
            raise RpcError(ErrorCode.INTERNAL, message) from None

    def _unknown_method(self, name: str) -> RpcError:
        names = list(self._methods)
        similar = most_similar(name[: limits.ID_CHARS], names)
        text = f"the method {cut(name)!r} {unknown(similar)}"
        return RpcError(ErrorCode.NO_SUCH_METHOD, text, {"suggestion": similar})


def encode(value: object) -> bytes:
    """Encode a value as compact ASCII JSON, which holds any text of a client (lone surrogates)."""
    return _ENCODER.encode(value).encode()


def error_line(error: RpcError) -> Pieces:
    """Encode an error that belongs to no request, as a line."""
    return [*_failure(None, error), b"\n"]


def _request(value: object) -> Request:
    if not isinstance(value, dict):
        raise RpcError(ErrorCode.INVALID_REQUEST, "a request is an object with jsonrpc and method")
    try:
        return Request.model_validate(value)
    except ValidationError as error:
        problems = problems_of(error, Request)
        is_positional = isinstance(value.get("params"), list)
        if is_positional and [problem.path for problem in problems] == [("params",)]:
            message = "parameters are passed by name: params must be an object"
            raise RpcError(ErrorCode.INVALID_PARAMS, message) from None
        raise with_problems(ErrorCode.INVALID_REQUEST, "the request", problems) from None


def _id_of(value: object) -> int | str | None:
    """The id of a request, even an invalid one; None if it has no valid id."""
    request_id = value.get("id") if isinstance(value, dict) else None
    if isinstance(request_id, bool) or not isinstance(request_id, int | str):
        return None
    is_long = isinstance(request_id, str) and len(request_id) > limits.ID_CHARS
    return None if is_long else request_id


def _success(request_id: int | str | None, result: Result) -> Pieces:
    head = b'{"jsonrpc":"2.0","id":%s,"result":' % encode(request_id)
    body = result if isinstance(result, Encoded) else [json_codec.encode(result)]
    return [head, *body, b"}"]


def _failure(request_id: int | str | None, error: RpcError) -> Pieces:
    return [encode({"jsonrpc": "2.0", "id": request_id, "error": error.as_dict()})]


def _bounded(answer: Pieces, limit_bytes: int) -> Pieces:
    """The answer, or an error if it is too long for a line."""
    size = sum(map(len, answer))
    if size <= limit_bytes:
        return answer
    head = answer[0].partition(b',"result"')[0]
    message = f"the answer has {size} bytes, more than a line may have; request fewer rules"
    error = encode(RpcError(ErrorCode.LIMIT, message).as_dict())
    return [head, b',"error":', error, b"}"]
