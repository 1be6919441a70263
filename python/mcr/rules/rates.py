"""The rate of an output, as text, and what the core makes of it."""

import re
from typing import Any

from .durations import duration, milliseconds
from .fields import Invalid, integer

_RATE = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?([kmg]?)(bit|pps)", re.ASCII)
_PREFIXES = (("g", 10**9), ("m", 10**6), ("k", 10**3), ("", 1))
_SCALES = dict(_PREFIXES)
_RANGES = {
    "bit": (10**3, 10**11, "1kbit to 100gbit"),
    "pps": (1, 10**8, "1pps to 100mpps"),
}
_BURSTS = {"bit": (1472, 10**9), "pps": (1, 10**6)}
"""Bytes of payload, of which a frame of 1500 bytes carries 1472; datagrams."""
_LEAST_DEFAULTS = {"bit": 65535, "pps": 64}
"""A datagram or a batch of the largest size; a batch of small datagrams."""
_MOST_QUEUE_MS = 1000
_USUAL_PACED_QUEUE = "20ms"
_DEFAULT_PARTS = 100
"""The burst without `burst=` is the rate for this part of a second."""


def rate(value: object) -> str:
    """The most that an output sends, in canonical text: bits of payload or datagrams a second."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Invalid(
            f"must be bits or datagrams a second, such as 50mbit or 20kpps, not {value!r}"
        )
    whole, part, prefix, unit = match.groups()
    scale = _SCALES[prefix]
    per_s = int(whole) * scale + round(int(part or 0) * scale / 10 ** len(part or ""))
    low, high, words = _RANGES[unit]
    if not low <= per_s <= high:
        raise Invalid(f"{value} is out of range: {words}; omit the option for any rate")
    prefix, scale = next((each, of) for each, of in _PREFIXES if per_s % of == 0)
    return f"{per_s // scale}{prefix}{unit}"


def burst(value: object) -> int:
    """What an output that has rested sends at once: bytes of payload, or datagrams."""
    return integer(value, 1, 10**9)


def burst_of(rate: object, value: object) -> int:
    """The burst of an output with this rate, whose own problems are reported elsewhere.

    Raises:
        Invalid: it has none, or a bucket cannot hold the burst.
    """
    size = burst(value)
    if rate is None:
        raise Invalid("needs a rate; write rate=50mbit or rate=20kpps too, or omit it")
    low, high = _BURSTS.get(_unit(str(rate)), (1, size))
    if size < low:
        raise Invalid(f"{size} bytes are less than one datagram; write at least {low}, or omit it")
    if size > high:
        raise Invalid(f"{size} is out of range: {low} to {high}")
    return size


def queue(value: object) -> str:
    """How long what exceeds a rate may wait, in canonical text."""
    return duration(value, _MOST_QUEUE_MS, "; omit the option to drop it at once")


def queue_of(rate: object, value: object) -> str:
    """The queue of an output with this rate, whose own problems are reported elsewhere.

    Raises:
        Invalid: it has none.
    """
    longest = queue(value)
    if rate is None:
        raise Invalid("needs a rate; write rate=50mbit or rate=20kpps too, or omit it")
    return longest


def pace_of(rate: object, burst: object, value: object) -> bool:
    """Whether the copies of an output with this rate and burst leave one by one.

    Raises:
        Invalid: it has no rate, or a burst.
    """
    if not isinstance(value, bool):
        raise Invalid(f"must be True or False, not {value!r}")
    if value and rate is None:
        raise Invalid("needs a rate; write rate=50mbit or rate=20kpps too, or omit it")
    if value and burst is not None:
        raise Invalid("sends no bursts; omit burst, or pace")
    return value


def queue_in_use(queue: str | None, pace: bool) -> str | None:
    """How long what exceeds the rate of an output may wait; None if it does not."""
    return _USUAL_PACED_QUEUE if queue is None and pace else queue


def rate_members(rate: str, burst: int | None, queue: str | None, pace: bool) -> dict[str, Any]:
    """The rate as the core reads it."""
    unit = _unit(rate)
    number = rate.removesuffix(unit)
    scale = _SCALES[number.lstrip("0123456789")]
    per_s = int(number.rstrip("kmg")) * scale
    bytes_or_datagrams = per_s // 8 if unit == "bit" else per_s
    usual = max(_LEAST_DEFAULTS[unit], bytes_or_datagrams // _DEFAULT_PARTS)
    name = "bits" if unit == "bit" else "datagrams"
    members = {"unit": name, "per_s": per_s, "burst": usual if burst is None else burst}
    longest = queue_in_use(queue, pace)
    if longest is not None:
        members["queue_us"] = 1000 * milliseconds(longest)
    return members | {"paced": True} if pace else members


def _unit(rate: str) -> str:
    return rate[-3:]
