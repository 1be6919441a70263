"""JSON from clients, read within limits of time and memory.

Owns what a line may hold to be read at all. Knows no request.
"""

from pydantic_core import from_json

from ....protocol.constants import ErrorCode
from .. import limits
from .errors import RpcError

_PIECE_BYTES = 1 << 20


def read_json(line: bytes) -> object:
    """The value that a line holds: RFC 8259, UTF-8, no NaN, at most 200 levels deep.

    Raises:
        RpcError: it is no JSON, or holds more values than can be read without holding up others.
    """
    if _has_too_many_values(line):
        message = f"the line has more than {limits.LINE_VALUES} commas and brackets"
        raise RpcError(ErrorCode.LIMIT, message)
    try:
        value: object = from_json(line, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise RpcError(ErrorCode.PARSE, f"the line is no JSON: {error}") from None
    return value


def _has_too_many_values(line: bytes) -> bool:
    """Count piece by piece: what has by far too many is not read to its end."""
    values = 0
    for start in range(0, len(line), _PIECE_BYTES):
        values += sum(line.count(sign, start, start + _PIECE_BYTES) for sign in (b",", b"[", b"{"))
        if values > limits.LINE_VALUES:
            return True
    return False
