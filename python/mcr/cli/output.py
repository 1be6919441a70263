"""Output for people: lines of counters, and tables of a daemon's answers; `live` is for terminals.

Owns the layout and computes no numbers. Rule text never passes through rich's markup, which would
delete `[...]` from an IPv6 address: cells are `Text` objects. No text is cut, and none can move a
terminal's cursor.
"""

import io
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Protocol, cast

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..protocol.selection import label
from ..protocol.summary import bits_text
from ..protocol.text import printable
from ..stats import InterfaceStats, RuleRate, RuleStats, Stats
from .live import Arrange, LiveView, WindowSize, live_lines
from .writer import TextStream

INTERVAL_S = 1.0
"""Interval between two readings."""
_FRAME_COLUMNS = 3  # that rich draws around each cell, with one more at the end
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


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


def show_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], styles: Sequence[str] = ()
) -> None:
    """Print rows to standard output; on a terminal each in its style, unless NO_COLOR is set.

    All of a red row is red, of others only the last cell has the colour.
    On a terminal that is wide enough they form a table, on a narrower one each row is a paragraph
    with a line per cell. Elsewhere each row is a line with aligned columns.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]
    if not sys.stdout.isatty():
        _print_aligned([list(headings), *cells], widths)
        return
    console = Console(file=sys.stdout)
    styles = styles or [""] * len(cells)
    if sum(widths) + _FRAME_COLUMNS * len(widths) + 1 <= console.width:
        console.print(_table(headings, cells, styles))
    else:
        _print_paragraphs(console, headings, cells, styles)


def as_red(line: str) -> str:
    """Return a line in red if standard output is a terminal with colours, else as it is."""
    console = Console(file=sys.stdout, soft_wrap=True)
    with console.capture() as red:
        console.print(Text(line, style="red"), end="")
    return red.get()


def moment(unix_s: float) -> str:
    """Return a Unix time as RFC 3339 has it, in local time with its offset and milliseconds."""
    return datetime.fromtimestamp(unix_s).astimezone().isoformat(timespec="milliseconds")


def span(seconds: float) -> str:
    """Return a length of time in its two largest units, such as ``2 h 3 min``."""
    whole = int(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"


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


def _table(headings: Sequence[str], cells: list[list[str]], styles: Sequence[str]) -> Table:
    table = Table()
    for heading in headings:
        table.add_column(Text(heading), no_wrap=True)
    for row, style in zip(cells, styles, strict=True):
        *others, last = row
        table.add_row(*map(Text, others), Text(last, style=style), style=_of_row(style))
    return table


def _of_row(style: str) -> str:
    """The style of a whole row."""
    return style if style == "red" else ""


def _print_aligned(rows: list[list[str]], widths: Sequence[int]) -> None:
    for row in rows:
        padded = (
            cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)
        )
        print("  ".join(padded).rstrip())


def _print_paragraphs(
    console: Console, headings: Sequence[str], cells: list[list[str]], styles: Sequence[str]
) -> None:
    for number, (row, style) in enumerate(zip(cells, styles, strict=True)):
        if number:
            print()
        for at, (heading, cell) in enumerate(zip(headings, row, strict=True), 1):
            own = style if at == len(row) else _of_row(style)
            console.print(Text(f"{heading}: {cell}"), style=own or None, soft_wrap=True)
