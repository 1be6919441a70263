"""The readings of a relay or a daemon one after another: a live table on a terminal, else lines."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Protocol, cast

from rich.console import Console
from rich.live import Live

from ..protocol.selection import label
from ..protocol.summary import bits_text
from ..stats import InterfaceStats, RuleRate, RuleStats, Stats
from .live import Arrange, LiveView, WindowSize, live_lines
from .writer import TextStream

INTERVAL_S = 1.0
"""Interval between two readings."""


class View(Protocol):
    """A display of successive readings."""

    def show(self, stats: Stats) -> None:
        """Show a reading, with its rates since the previous one."""

    def note(self, text: str) -> None:
        """Print lines that stay above the readings."""


@contextmanager
def open_view(
    before: Stats, stream: TextStream, arrange: Arrange = lambda stats: stats
) -> Iterator[View]:
    """Open the view that suits the stream: a live table on a terminal, else a line per reading.

    Args:
        before: the reading from which the first rates are computed.
        stream: a terminal, pipe or file.
        arrange: chooses and orders the rules to show of each reading; by default all.
    """
    if not stream.isatty():
        yield _Lines(stream, before, arrange)
        return
    console = Console(file=cast(IO[str], stream))
    with Live(console=console, auto_refresh=False, redirect_stdout=False) as live:
        yield LiveView(live, before, arrange)


def rehearse(stats: Stats, *, as_json: bool) -> None:
    """Draw a table in memory, and with `as_json` write JSON, since both load libraries.

    A process that has become another user may no longer be able to read those files.
    """
    if as_json:
        stats.as_dict()
    console = Console(file=io.StringIO(), force_terminal=True)
    size = WindowSize(console.size.width, console.size.height)
    console.print(*live_lines(stats, stats.rates_since(stats), size), sep="\n")


class _Lines:
    def __init__(self, stream: TextStream, before: Stats, arrange: Arrange) -> None:
        self._stream = stream
        self._before = before
        self._arrange = arrange

    def show(self, stats: Stats) -> None:
        rates = stats.rates_since(self._before)
        rules = " | ".join(_rule_line(rule, rates[rule.id]) for rule in self._arrange(stats).rules)
        losses = "".join(f" | {text}" for each in stats.interfaces if (text := _unseen(each)))
        self.note(f"{time.strftime('%H:%M:%S')} {rules}{losses}")
        self._before = stats

    def note(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()


def _rule_line(rule: RuleStats, rate: RuleRate) -> str:
    speed = f"{rate.matched_pps:.0f}/s {bits_text(rate.matched_bits_per_s)}"
    return f"{label(rule)}: {rule.state}, {speed}, matched {rule.matched}, lost {rule.lost}"


def _unseen(interface: InterfaceStats) -> str:
    """Facts that belong to no rule: frames lost before mcr saw them, and a failed receiver."""
    kernel = interface.kernel_dropped_frames
    facts = [f"kernel dropped {kernel} frames"] if kernel else []
    facts += [f"receiving ended with {interface.error}"] if interface.error else []
    return f"{interface.name}: {', '.join(facts)}" if facts else ""
