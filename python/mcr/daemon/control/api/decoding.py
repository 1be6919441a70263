"""JSON from clients, parsed within limits of time and memory."""

from pydantic_core import from_json

from ....protocol.constants import ErrorCode
from .. import limits
from .errors import RpcError

_PIECE_BYTES = 1 << 20


def read_json(line: bytes) -> object:
    """Parse a line: RFC 8259, UTF-8, no NaN, at most 200 levels deep.

    Raises:
        RpcError: the line is not JSON, or has so many values that parsing it would delay other
            clients.
    """
    if _has_too_many_values(line):
        message = f"the line has more than {limits.LINE_VALUES} commas and brackets"
        raise RpcError(ErrorCode.LIMIT, message)
    try:
        value: object = from_json(line, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise RpcError(ErrorCode.PARSE, f"the line is not JSON: {error}") from None
    return value


def _has_too_many_values(line: bytes) -> bool:
    """Count piece by piece, and stop at the limit."""
    values = 0
    for start in range(0, len(line), _PIECE_BYTES):
        values += sum(line.count(sign, start, start + _PIECE_BYTES) for sign in (b",", b"[", b"{"))
        if values > limits.LINE_VALUES:
            return True
    return False
