"""Lengths of time as text, such as ``20ms``: a whole number of milliseconds or seconds."""

import re

from .fields import Invalid

_DURATION = re.compile(r"([0-9]{1,5})(ms|s)", re.ASCII)


def duration(value: object, most_ms: int, advice: str = "") -> str:
    """A time of at least a millisecond, in canonical text.

    Args:
        value: the text.
        most_ms: the longest one, in milliseconds.
        advice: what to do in place of a time out of range.
    """
    if not isinstance(value, str) or _DURATION.fullmatch(value) is None:
        raise Invalid(f"must be a time such as 20ms, not {value!r}")
    length_ms = milliseconds(value)
    if not 1 <= length_ms <= most_ms:
        raise Invalid(f"{value} is out of range: 1ms to {_text(most_ms)}{advice}")
    return _text(length_ms)


def milliseconds(text: str) -> int:
    """The milliseconds of a time in canonical text."""
    number = int(text.rstrip("ms"))
    return number if text.endswith("ms") else 1000 * number


def _text(length_ms: int) -> str:
    return f"{length_ms // 1000}s" if length_ms % 1000 == 0 else f"{length_ms}ms"
