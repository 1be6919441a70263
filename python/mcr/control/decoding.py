"""JSON from clients, read within limits of time and memory.

Owns what a line may hold to be read at all. Knows no request.
"""

from pydantic_core import from_json

from ..daemon import ErrorCode
from . import limits
from .refusals import Refusal


def read_json(line: bytes) -> object:
    """The value that a line holds: RFC 8259, UTF-8, no NaN, at most 200 levels deep.

    Raises:
        Refusal: it is no JSON, or holds more values than can be read without holding up others.
    """
    values = line.count(b",") + line.count(b"[") + line.count(b"{")
    if values > limits.LINE_VALUES:
        message = f"the line has {values} commas and brackets, more than {limits.LINE_VALUES}"
        raise Refusal(ErrorCode.LIMIT, message)
    try:
        value: object = from_json(line, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise Refusal(ErrorCode.PARSE, f"the line is no JSON: {error}") from None
    return value
