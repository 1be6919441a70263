"""Tables and colours of a terminal.

Rule text never passes through rich's markup, which would delete `[...]` from an IPv6 address: cells
are `Text` objects.
"""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_FRAME_COLUMNS = 3  # that rich draws around each cell, with one more at the end


def print_table(
    headings: Sequence[str],
    cells: list[list[str]],
    widths: Sequence[int],
    styles: Sequence[str] = (),
) -> None:
    """Print rows to a terminal, each in its style, unless NO_COLOR is set.

    All of a red row is red, of others only the last cell has the colour. On a terminal that is wide
    enough they form a table, on a narrower one each row is a paragraph with a line per cell.

    Args:
        headings: of the columns.
        cells: printable texts, by row.
        widths: of the columns, in terminal cells.
        styles: of the rows; none means the terminal's own.
    """
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


def _print_paragraphs(
    console: Console, headings: Sequence[str], cells: list[list[str]], styles: Sequence[str]
) -> None:
    for number, (row, style) in enumerate(zip(cells, styles, strict=True)):
        if number:
            print()
        for at, (heading, cell) in enumerate(zip(headings, row, strict=True), 1):
            own = style if at == len(row) else _of_row(style)
            console.print(Text(f"{heading}: {cell}"), style=own or None, soft_wrap=True)
