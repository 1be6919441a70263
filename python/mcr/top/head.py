"""The first lines of each screen: the daemon, the sums of its rules, and what is shown of them."""

import time
from collections.abc import Iterable

from rich.text import Text

from ..protocol.selection import AnyRule
from ..protocol.summary import bits_text
from ..protocol.text import printable
from ..rules.model import counted
from ..stats import RuleStats
from .reader import DaemonReader

_LATE_S = 3.0
"""An answer that takes longer is worth a word."""


def head(reader: DaemonReader, problems: int, width: int) -> Text:
    """Two lines: the daemon, or why it does not answer; and its rules."""
    server = reader.hello.server if reader.hello else "mcr"
    read_at = time.strftime("%H:%M:%S", time.localtime(reader.time)) if reader.time else ""
    first = Text(fitted(f"{server} at {reader.path}", read_at, width))
    trouble = _trouble(reader)
    second = Text(trouble, style="bold red") if trouble else Text(_sums(reader, problems))
    second.truncate(width, overflow="ellipsis")
    return Text("\n").join([first, second])


def _trouble(reader: DaemonReader) -> str:
    """Why what is shown may be old; empty if it is not."""
    if reader.failure is not None:
        return f"{printable(reader.failure)}; trying again"
    if reader.age_s > _LATE_S:
        what = "no answer" if reader.rules else "waiting for the first answer"
        return f"{what} for {reader.age_s:.0f} s; what is shown is old"
    return ""


def _sums(reader: DaemonReader, problems: int) -> str:
    rules = list(reader.rules.values())
    received, bits, lost, sent = _rates(rules)
    return (
        f"{counted(len(rules))}, {problems or 'none'} with a problem; in {received:.0f}/s"
        f" {bits_text(bits)}, out {sent:.0f}/s, lost {lost:.0f}/s"
    )


def _rates(rules: Iterable[AnyRule]) -> tuple[float, float, float, float]:
    """What all rules receive (datagrams, bits), lose and send per second."""
    known = [rule for rule in rules if isinstance(rule, RuleStats)]
    inward = [rule.rate_1s for rule in known if rule.rate_1s]
    outward = (output.rate_1s.pps for rule in known for output in rule.outputs if output.rate_1s)
    return (
        sum(rate.pps for rate in inward),
        sum(rate.bits_per_s for rate in inward),
        sum(rate.dropped_pps for rate in inward),
        sum(outward),
    )


def fitted(left: str, right: str, width: int) -> str:
    """A line with a text at either end; the left one is cut."""
    room = width - len(right) - 1
    shown = left if len(left) <= room else f"{left[: room - 1]}…"
    return f"{shown:{room}} {right}"
