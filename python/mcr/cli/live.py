"""The live view of counters on a terminal: it fits the window and breaks no word that fits a line.

Owns the layout and computes no numbers. It draws no frames, and its last line is short: what the
terminal echoes for Ctrl-C then wraps nowhere, and the view ends as it was.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ..protocol.selection import label, state_colour
from ..protocol.summary import bits_text, interface_line
from ..protocol.text import printable
from ..stats import RuleRate, RuleStats, Stats

_HEADINGS = ("in/s", "rate", "lost/s", "matched", "lost")
_HEADINGS_NARROW = ("in/s", "lost")
_WIDE_COLUMNS = 96
"""At this width all numbers leave room for a sentence beside them."""
_STATE_COLUMNS = 28
"""With less room for the state beside the numbers it has lines of its own."""
_LEAST_COLUMNS, _LEAST_ROWS = 20, 6
_GAP = 2
_INDENT = 2
_WRAP = Console(width=80)  # rich wraps for a console; the width is given with each text


Arrange = Callable[[Stats], Stats]
"""Chooses and orders the rules to show of a reading."""


class WindowSize(NamedTuple):
    """The size of a terminal."""

    columns: int
    rows: int


class LiveView:
    """Successive readings on a terminal."""

    def __init__(self, live: Live, before: Stats, arrange: Arrange) -> None:
        """Show nothing yet.

        Args:
            live: where to draw.
            before: the reading from which the first rates are computed.
            arrange: chooses and orders the rules to show of a reading.
        """
        self._live = live
        self._before = before
        self._arrange = arrange

    def show(self, stats: Stats) -> None:
        """Show a reading, with its rates since the previous one."""
        size = self._live.console.size
        rates = stats.rates_since(self._before)
        lines = live_lines(self._arrange(stats), rates, WindowSize(size.width, size.height))
        self._live.update(Group(*lines), refresh=True)
        self._before = stats

    def note(self, text: str) -> None:
        """Print lines that stay above the readings."""
        self._live.console.print(Text(printable(text)))


def live_lines(stats: Stats, rates: Mapping[str, RuleRate], window: WindowSize) -> list[Text]:
    """Return the lines of a reading: as many rules as fit, then all interfaces that fit."""
    width = max(_LEAST_COLUMNS, window.columns)
    height = max(_LEAST_ROWS, window.rows)
    headings = _HEADINGS if width >= _WIDE_COLUMNS else _HEADINGS_NARROW
    foot = _interface_lines(stats, width, height // 3)
    room = height - len(foot) - 2  # the headings, and the last line
    columns = _Columns.of(stats.rules[:room], rates, headings, width)
    lines = columns.head()
    room -= len(lines) - 1
    shown = 0
    for rule in stats.rules[:room]:
        own = columns.rule_lines(rule, rates[rule.id])
        if shown and len(own) > room:
            break
        lines += own[: max(0, room)]
        room -= len(own)
        shown += 1
    more = f", {shown} shown" if shown < len(stats.rules) else ""
    last = f"{time.strftime('%H:%M:%S')}  rules: {len(stats.rules)}{more}"
    return [*lines, *foot, Text(last[: width - 4])]


class _Columns(NamedTuple):
    """The widths of the columns for some rules."""

    label: int
    numbers: Mapping[str, int]
    state: int
    width: int

    @classmethod
    def of(
        cls,
        rules: Sequence[RuleStats],
        rates: Mapping[str, RuleRate],
        headings: Sequence[str],
        width: int,
    ) -> "_Columns":
        cells = [_numbers(rule, rates[rule.id]) for rule in rules]
        numbers = {
            heading: max(map(len, (heading, *(cell[heading] for cell in cells))))
            for heading in headings
        }
        labels = max((cell_len(printable(label(rule))) for rule in rules), default=0)
        beside = sum(numbers.values()) + _GAP * (len(numbers) + 1)
        own = max(labels, len("rule"))
        state = width - own - beside
        if state < _STATE_COLUMNS:  # stacked
            return cls(0, numbers, width - _INDENT, width)
        return cls(own, numbers, state, width)

    def head(self) -> list[Text]:
        names = "".join(f"{heading:>{n + _GAP}}" for heading, n in self.numbers.items())
        if self.label:
            return [Text(f"{'rule':{self.label}}{names}{' ' * _GAP}state", style="bold")]
        return [Text(f"rule{names}  state"[: self.width], style="bold")]

    def rule_lines(self, rule: RuleStats, rate: RuleRate) -> list[Text]:
        cells = _numbers(rule, rate)
        style = state_colour(rule, is_losing=rate.lost_pps > 0)
        of_numbers = style if style == "red" else ""
        numbers = "".join(f"{cells[heading]:>{n + _GAP}}" for heading, n in self.numbers.items())
        name = printable(label(rule))
        state = _wrapped(printable(rule.state), self.state)
        if not self.label:
            texts = [*_wrapped(name, self.width), numbers.strip(), *state]
            first = len(texts) - len(state) - 1
            return [
                Text(
                    each if at < first else f"{' ' * _INDENT}{each}",
                    style=style if at > first else of_numbers,
                )
                for at, each in enumerate(texts)
            ]
        name += " " * (self.label - cell_len(name))
        head = f"{name}{numbers}{' ' * _GAP}"
        indent = " " * cell_len(head)
        return [
            Text.assemble((indent if at else head, of_numbers), (each, style))
            for at, each in enumerate(state)
        ]


def _numbers(rule: RuleStats, rate: RuleRate) -> dict[str, str]:
    return {
        "in/s": f"{rate.matched_pps:.0f}",
        "rate": bits_text(rate.matched_bits_per_s),
        "lost/s": f"{rate.lost_pps:.0f}",
        "matched": str(rule.matched),
        "lost": str(rule.lost),
    }


def _interface_lines(stats: Stats, width: int, most: int) -> list[Text]:
    lines: list[Text] = []
    for number, interface in enumerate(stats.interfaces):
        own = [Text(each) for each in _wrapped(printable(interface_line(interface)), width)]
        if lines and len(lines) + len(own) > most:
            return [*lines, Text(f"and {len(stats.interfaces) - number} more interfaces"[:width])]
        lines += own
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    """The lines of a text; only a word that is longer than a line is divided."""
    return [line.plain.rstrip() for line in Text(text).wrap(_WRAP, width)] or [""]
