"""JSON-RPC 2.0 over lines: a line becomes requests, their results become one line.

Owns batches, notifications and the shape of errors. Knows neither sockets nor what methods do.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from .... import json_codec
from ....errors import McrError
from ....json_codec import JsonObject
from ....protocol.constants import LINE_BYTES, ErrorCode
from .. import limits
from .decoding import read_json
from .errors import RpcError, cut, rpc_error_from, with_problems
from .params import Request
from .pydantic_problems import problems_of, unknown

Caller = TypeVar("Caller")
Pieces = list[bytes]
"""An answer in pieces, so that a long one is never one block of memory."""

_log = logging.getLogger("mcr.control")
_clients = logging.getLogger("mcr.clients")


class Encoded(list[bytes]):
    """A result that is JSON already, in pieces."""


Result = JsonObject | Encoded


@dataclass(frozen=True, slots=True)
class Method(Generic[Caller]):
    """What one method takes, and what serves it."""

    params: type[BaseModel]
    serve: Callable[[Caller, Any], Awaitable[Result]]
    """Takes who asks and the parameters."""


class Dispatcher(Generic[Caller]):
    """Serves lines by a table of methods."""

    def __init__(self, methods: Mapping[str, Method[Caller]]) -> None:
        """Take the table."""
        self._methods = methods
        self._big_lines = asyncio.Lock()

    async def answer(self, line: bytes, caller: Caller) -> Pieces | None:
        """The answer to a line, with its line feed; None where none is due."""
        try:
            value = await self._read(line)
        except RpcError as refusal:
            return [*_failure(None, refusal), b"\n"]
        if not isinstance(value, list):
            answered = await self._one(value, caller)
            return None if answered is None else [*_bounded(answered, LINE_BYTES - 1), b"\n"]
        return await self._batch(value, caller)

    async def _read(self, line: bytes) -> object:
        if len(line) <= limits.BIG_LINE_BYTES:
            return read_json(line)
        # One after the other, and as long as it took there is time for everybody else.
        async with self._big_lines:
            began_s = time.monotonic()
            try:
                return read_json(line)
            finally:
                await asyncio.sleep(time.monotonic() - began_s)

    async def _batch(self, values: list[object], caller: Caller) -> Pieces | None:
        if not 0 < len(values) <= limits.BATCH_REQUESTS:
            message = f"a batch has 1 to {limits.BATCH_REQUESTS} requests, not {len(values)}"
            code = ErrorCode.LIMIT if values else ErrorCode.INVALID_REQUEST
            return [*_failure(None, RpcError(code, message)), b"\n"]
        pieces: Pieces = []
        left_bytes = LINE_BYTES - len(values) * 2 - 2
        for value in values:
            answered = await self._one(value, caller)
            if answered is not None:
                answered = _bounded(answered, left_bytes)
                left_bytes -= sum(map(len, answered))
                pieces += [b"," if pieces else b"[", *answered]
            await asyncio.sleep(0)
        return [*pieces, b"]\n"] if pieces else None

    async def _one(self, value: object, caller: Caller) -> Pieces | None:
        request_id = _id_of(value)
        try:
            request = _request(value)
        except RpcError as refusal:
            return _failure(request_id, refusal)
        wants_answer = isinstance(value, dict) and "id" in value
        try:
            result = await self._serve(request, caller)
        except RpcError as refusal:
            _clients.debug("%s refused: %s", cut(request.method), refusal.message)
            return _failure(request_id, refusal) if wants_answer else None
        return _success(request_id, result) if wants_answer else None

    async def _serve(self, request: Request, caller: Caller) -> Result:
        method = self._methods.get(request.method)
        if method is None:
            raise self._no_such(request.method)
        try:
            params = method.params.model_validate(request.params)
        except ValidationError as error:
            problems = problems_of(error, method.params)
            raise with_problems(ErrorCode.INVALID_PARAMS, request.method, problems) from None
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

    def _no_such(self, name: str) -> RpcError:
        names = list(self._methods)
        text = f"the method {cut(name)!r} {unknown(name[: limits.ID_CHARS], names)}"
        hint = text.partition("did you mean '")[2].removesuffix("'?")
        return RpcError(ErrorCode.NO_SUCH_METHOD, text, {"suggestion": hint or None})


def encode(value: object) -> bytes:
    """JSON without spaces, in ASCII: what a client sent in its texts never fails to be said."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def refuse(refusal: RpcError) -> Pieces:
    """A line that answers no request in particular."""
    return [*_failure(None, refusal), b"\n"]


def _request(value: object) -> Request:
    if not isinstance(value, dict):
        raise RpcError(ErrorCode.INVALID_REQUEST, "a request is an object with jsonrpc and method")
    try:
        return Request.model_validate(value)
    except ValidationError as error:
        problems = problems_of(error, Request)
        by_place = isinstance(value.get("params"), list)
        if by_place and [problem.field for problem in problems] == ["params"]:
            message = "parameters go by name: params is an object"
            raise RpcError(ErrorCode.INVALID_PARAMS, message) from None
        raise with_problems(ErrorCode.INVALID_REQUEST, "the request", problems) from None


def _id_of(value: object) -> int | str | None:
    """The id as far as it can be told, since errors carry it too."""
    found = value.get("id") if isinstance(value, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | str):
        return None
    return None if isinstance(found, str) and len(found) > limits.ID_CHARS else found


def _success(request_id: int | str | None, result: Result) -> Pieces:
    head = b'{"jsonrpc":"2.0","id":%s,"result":' % encode(request_id)
    body = result if isinstance(result, Encoded) else [json_codec.encode(result)]
    return [head, *body, b"}"]


def _failure(request_id: int | str | None, refusal: RpcError) -> Pieces:
    return [encode({"jsonrpc": "2.0", "id": request_id, "error": refusal.as_dict()})]


def _bounded(answered: Pieces, limit_bytes: int) -> Pieces:
    """The answer, or an error in its place where no line could hold it."""
    size = sum(map(len, answered))
    if size <= limit_bytes:
        return answered
    head = answered[0].partition(b',"result"')[0]
    message = f"the answer has {size} bytes, more than a line holds; ask for fewer rules"
    error = encode(RpcError(ErrorCode.LIMIT, message).as_dict())
    return [head, b',"error":', error, b"}"]
