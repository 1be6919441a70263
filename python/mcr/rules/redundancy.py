"""The options by which a rule merges several inputs: their values, and which go together."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from .durations import duration, milliseconds
from .fields import (
    SEQUENCE_FIELD,
    Address,
    Invalid,
    Network,
    ProblemCollector,
    block_bits,
    sequence,
)

Late = Literal["send", "drop"]
MERGE_OPTIONS = ("merge", "late", "after", "reorder")
"""The options that need several inputs."""

_WORDS = ("rtp", "mold", "hash", "failover")
_WITHOUT_NUMBERS = ("hash", "failover")
_MOST_AFTER_MS = 60_000
_MOST_REORDER_MS = 500
"""More than the 450 ms of ST 2022-7, class C."""
_USUAL_AFTER = "200ms"
"""Longer than the pauses of a stream of at least ten datagrams a second, even with jitter."""


class MergedInput(Protocol):
    """An input of a rule."""

    @property
    def group(self) -> Address | Network:
        """Its group, or block of groups."""

    @property
    def port(self) -> int | range:
        """Its port or ports."""


def merge(value: object) -> str:
    """By what datagrams of several inputs are known to be the same, in canonical text."""
    text = value if isinstance(value, str) else ""
    if text in _WORDS:
        return text
    place = SEQUENCE_FIELD.fullmatch(text.removeprefix("seq:"))
    if place is None or not text.startswith("seq:"):
        raise Invalid(
            "must be rtp, mold, hash, failover, or seq:OFFSET:WIDTH of a number, such as seq:4:32"
            f" or seq:4:32le, not {value!r}"
        )
    if int(place[2]) == 8:  # noqa: PLR2004 -- bits
        raise Invalid("a number of 8 bits repeats too soon; merge by one of 16 bits or more")
    return f"seq:{sequence(text.removeprefix('seq:'))}"


def late(value: object) -> Late:
    """What becomes of datagrams that no input delivered before later ones."""
    if value == "send":
        return "send"
    if value == "drop":
        return "drop"
    raise Invalid(f"must be 'send' or 'drop', not {value!r}")


def after(value: object) -> str:
    """The silence of an input after which another one is sent, in canonical text."""
    return duration(value, _MOST_AFTER_MS)


def reorder(value: object) -> str:
    """How long datagrams ahead of a gap are held, in canonical text."""
    return duration(value, _MOST_REORDER_MS, "; omit the option to send at once")


def after_ms_in_use(after: str | None) -> int:
    """The silence in milliseconds after which another input is sent."""
    return milliseconds(after or _USUAL_AFTER)


def check_merge(
    inputs: Sequence[MergedInput], options: Mapping[str, Any], check: ProblemCollector
) -> None:
    """Notes inputs that cannot be merged, and options that do not fit.

    Args:
        inputs: all inputs of a rule.
        options: the value of each of `MERGE_OPTIONS`; None for one that is not given.
        check: gets the problems.
    """
    if len(inputs) == 1:
        for name in MERGE_OPTIONS:
            if options[name] is not None:
                check.add(name, "needs several inputs; write 'INPUT + INPUT,merge=rtp to OUTPUT'")
        return
    _check_options(options, check)
    for number, each in enumerate(inputs, 1):
        if each in inputs[: number - 1]:
            check.add(("input", number), "is given twice; omit one")
        if block_bits(each.group) or isinstance(each.port, range):
            check.add(("input", number), "must be one group and port to be merged")


def _check_options(options: Mapping[str, Any], check: ProblemCollector) -> None:
    """Notes options that do not fit each other."""
    merge = options["merge"]
    if merge is None:
        check.add("merge", "is missing; write merge=rtp, mold, hash, failover or seq:OFFSET:WIDTH")
        return
    if merge in _WITHOUT_NUMBERS:
        for name in ("late", "reorder"):
            if options[name] is not None:
                check.add(name, f"needs numbers, which merge={merge} does not read; omit it")
    elif options["reorder"] is not None and options["late"] == "send":
        check.add("late", "must be drop with reorder, which keeps the order; omit it")
    if merge != "failover" and options["after"] is not None:
        check.add("after", f"needs merge=failover, not merge={merge}; omit it")
