"""What a rule expects of its traffic: the value, and its text, such as `2s+1000pps~20%+1source`.

    expectation = "none" | item *("+" item)
    item        = number unit ["~" percent "%"]     the tolerance only after a rate

Canonical: in the order of the fields, each number an integer of the largest unit that holds it, and
no tolerance that is the default.
"""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, NamedTuple

from ..errors import ArgumentError
from .fields import Invalid, integer

TOLERANCE_PERCENT = 10
"""How far a rate may stay below the expected one by default: streams of a constant rate vary less
over a second, and a lost layer or channel is more."""
_MOST_TOLERANCE_PERCENT = 99  # with all of it, no traffic would do as well

_ITEM = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([a-z]+)(?:~([0-9]{1,3})%?)?", re.ASCII)
_EXAMPLES = "write such as 2s, 1000pps, 8mbps~20% or 1source, joined by '+', or none"


class _Unit(NamedTuple):
    """A unit: the field that it belongs to, and its size in the field's own unit."""

    field: str
    size: int


_UNITS: Final = {
    "s": _Unit("silence_ms", 1000),
    "ms": _Unit("silence_ms", 1),
    "pps": _Unit("pps", 1),
    "gbps": _Unit("bits_per_s", 10**9),
    "mbps": _Unit("bits_per_s", 10**6),
    "kbps": _Unit("bits_per_s", 1000),
    "bps": _Unit("bits_per_s", 1),
    "source": _Unit("sources", 1),
    "sources": _Unit("sources", 1),
}
_RANGES: Final = {
    "silence_ms": ("the silence", 100, 86_400_000, "100ms to 86400s"),
    "pps": ("the packet rate", 1, 10**9, "1pps to 1000000000pps"),
    "bits_per_s": ("the bit rate", 1000, 10**12, "1kbps to 1000gbps"),
    "sources": ("the number of sources", 1, 1000, "1source to 1000sources"),
}
"""The name, least, most, and both as text. Counters are read twice a second, and a shorter silence
is seen only where it meets a reading."""
_TOLERANCES: Final = {"pps": "pps_tolerance", "bits_per_s": "bits_tolerance"}


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a rule expects of its traffic; None where it expects nothing.

    Its text is easier to read: see `parse`.
    """

    silence_ms: int | None = None
    """The longest time between two datagrams."""
    pps: int | None = None
    """The least datagrams per second."""
    bits_per_s: int | None = None
    """The least bits of UDP payload per second."""
    sources: int | None = None
    """The number of senders."""
    pps_tolerance: int = field(default=TOLERANCE_PERCENT)
    """By how many percent `pps` may be missed."""
    bits_tolerance: int = field(default=TOLERANCE_PERCENT)
    """By how many percent `bits_per_s` may be missed."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ArgumentError: a value is out of its range; the text names it.
        """
        limits = [(name, least, most) for name, (_, least, most, _) in _RANGES.items()]
        limits += [(name, 0, _MOST_TOLERANCE_PERCENT) for name in _TOLERANCES.values()]
        for name, least, most in limits:
            value = getattr(self, name)
            try:
                if value is not None or name in _TOLERANCES.values():
                    integer(value, least, most)
            except Invalid as error:
                raise ArgumentError(f"{name}: {error}") from None

    @classmethod
    def parse(cls, value: object) -> "Expectation":
        """Read the text of an expectation; a value is returned as it is.

        Raises:
            ArgumentError: with one sentence.
        """
        if isinstance(value, Expectation):
            return value
        if not isinstance(value, str):
            raise Invalid(f"must be a string, not {value!r}; {_EXAMPLES}")
        if value == "none":
            return cls()
        found: dict[str, int] = {}
        for item in value.split("+"):
            _read_item(item, found)
        return cls(**found)

    @property
    def is_empty(self) -> bool:
        """Whether it expects nothing."""
        return self == EMPTY

    @property
    def least_pps(self) -> float:
        """The rate below which `pps` is missed; 0 if none is expected."""
        return (self.pps or 0) * (100 - self.pps_tolerance) / 100

    @property
    def least_bits_per_s(self) -> float:
        """The rate below which `bits_per_s` is missed; 0 if none is expected."""
        return (self.bits_per_s or 0) * (100 - self.bits_tolerance) / 100

    def __str__(self) -> str:
        """The canonical text."""
        items = (_item_text(self, name) for name in _RANGES)
        return "+".join(filter(None, items)) or "none"


EMPTY: Final = Expectation()
"""Expects nothing."""


def _read_item(item: str, found: dict[str, int]) -> None:
    matched = _ITEM.fullmatch(item)
    unit = _UNITS.get(matched[2]) if matched else None
    if matched is None or unit is None:
        raise Invalid(f"{item!r} is not an expectation; {_EXAMPLES}")
    name, least, most, limits = _RANGES[unit.field]
    if unit.field in found:
        raise Invalid(f"{name} is given twice")
    exact = Decimal(matched[1]) * unit.size
    if exact != int(exact) or not least <= exact <= most:
        raise Invalid(f"{item!r} is out of range or too fine: {name} must be {limits}")
    found[unit.field] = int(exact)
    if matched[3] is not None:
        found |= _tolerance(item, unit.field, int(matched[3]))


def _tolerance(item: str, name: str, percent: int) -> dict[str, int]:
    if name not in _TOLERANCES:
        raise Invalid(f"{item!r} has a tolerance, which only a rate can have")
    if percent > _MOST_TOLERANCE_PERCENT:
        raise Invalid(f"{item!r} would accept no traffic at all: the tolerance must be 0% to 99%")
    return {_TOLERANCES[name]: percent}


def _item_text(expectation: Expectation, name: str) -> str:
    value = getattr(expectation, name)
    if value is None:
        return ""
    fitting = (
        (own, each.size)
        for own, each in _UNITS.items()
        if each.field == name and value % each.size == 0
    )
    unit, size = max(fitting, key=lambda pair: pair[1])
    if name == "sources" and value > 1:
        unit = "sources"
    tolerance = getattr(expectation, _TOLERANCES[name]) if name in _TOLERANCES else None
    suffix = "" if tolerance in (None, TOLERANCE_PERCENT) else f"~{tolerance}%"
    return f"{value // size}{unit}{suffix}"
