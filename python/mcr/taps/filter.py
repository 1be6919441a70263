"""Which datagrams a tap takes."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from .._native import LOSSES
from ..errors import ArgumentError, RuleError
from ..rules.fields import Invalid, integer
from ..similar_names import suggestion
from ..stats.discards import MISMATCHES, PARSE_ERRORS

FRAME_BYTES = 262_144
"""The most bytes kept of a frame: all of it, as capture programs write at most."""
TRACE_FRAME_BYTES = 128
"""The bytes that a trace keeps of a frame: its headers."""
RING_BYTES = 16 << 20
"""The default size of a ring."""
LEAST_RING_BYTES, MOST_RING_BYTES = 1 << 20, 64 << 20
"""The range of the size of a ring."""

_MOST_SAMPLE = 2**32 - 1
_MOST_OUTPUT = 65_534

Taken = Literal["received", "sent", "dropped"]
TAKEN: tuple[Taken, ...] = get_args(Taken)
"""What a tap takes: datagrams that a rule matched, copies that were sent, and datagrams and copies
that were dropped."""


@dataclass(frozen=True, slots=True)
class TapFilter:
    """Which datagrams a tap takes; engines decide it for each."""

    rule: str | None = None
    """The id or name of the only rule; None takes all. Datagrams that no rule relays belong to it
    if they arrive on its interface for one of its groups."""
    output: int | None = None
    """The only output of the rule, from 1, of which copies alone are taken; None takes all."""
    reason: str | None = None
    """The only reason of drops, which alone are taken; None takes all."""
    take: Iterable[Taken] | None = None
    """What is taken; None takes all that the other fields permit."""
    sample: int = 1
    """Every n-th datagram is taken, with its copies."""
    frame_bytes: int = FRAME_BYTES
    """The most bytes kept of a frame."""
    ring_bytes: int = RING_BYTES
    """The size of each worker's ring, 1 to 64 MiB."""

    def __post_init__(self) -> None:
        """Check what engines do not check; `take` becomes a tuple.

        Raises:
            ArgumentError: a value is out of its range or of a wrong type; the text names it.
        """
        numbers = [
            ("ring_bytes", self.ring_bytes, LEAST_RING_BYTES, MOST_RING_BYTES),
            ("sample", self.sample, 1, _MOST_SAMPLE),
            ("frame_bytes", self.frame_bytes, 1, FRAME_BYTES),
        ]
        if self.output is not None:
            numbers.append(("output", self.output, 1, _MOST_OUTPUT))
        for name, value, least, most in numbers:
            try:
                integer(value, least, most)
            except Invalid as error:
                raise ArgumentError(f"{name}: {error}") from None
        if self.output is not None and self.rule is None:
            raise ArgumentError("output: is a number of an output of the rule, which is missing")
        for name, text in (("rule", self.rule), ("reason", self.reason)):
            if not isinstance(text, str | None):
                raise ArgumentError(f"{name}: must be a string, not {text!r}")
        object.__setattr__(self, "take", self._taken())

    def _taken(self) -> tuple[Taken, ...] | None:
        if self.take is None:
            return None
        choice = f"a sequence of {', '.join(TAKEN)}"
        if isinstance(self.take, str) or not isinstance(self.take, Iterable):
            raise ArgumentError(f"take: must be {choice}, not {self.take!r}")
        taken = tuple(self.take)
        if wrong := [each for each in taken if each not in TAKEN]:
            raise ArgumentError(f"take: must be {choice}, not {wrong[0]!r}")
        return taken

    def for_engines(self, rule_id: str | None) -> dict[str, object]:
        """As engines get it, in JSON; `rule_id` is the id of the rule."""
        take = tuple(self.take or (TAKEN if self.reason is None else ("dropped",)))
        return {
            "rule": rule_id,
            "output": None if self.output is None else self.output - 1,
            "received": "received" in take,
            "sent": "sent" in take,
            "dropped": "dropped" in take,
            "reason": self.reason,
            "sample": self.sample,
            "frame_bytes": self.frame_bytes,
        }


def check_reason(reason: str | None) -> None:
    """Check that something can be dropped for this reason; None is any.

    The relay or daemon that records checks it: a client may be older and know fewer reasons.

    Raises:
        RuleError: with all reasons, and the most similar one.
    """
    known = [*MISMATCHES, *PARSE_ERRORS, *LOSSES]
    if reason is None or reason in known:
        return
    hint = suggestion(reason, known, before="; ")
    raise RuleError([("reason", f"{reason!r} is not one of {', '.join(map(repr, known))}{hint}")])


def encode(filter_for_engines: dict[str, object]) -> bytes:
    """The filter as JSON."""
    return json.dumps(filter_for_engines).encode()
