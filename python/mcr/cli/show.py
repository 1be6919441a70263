"""What a daemon's answers look like to people: tables where they fit, else line under line.

Owns the layout; knows no command. Nothing is ever cut, and no text is taken for markup or for
what moves a terminal's cursor.
"""

import sys
import time
from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_FRAME_COLUMNS = 3  # what rich draws around each cell, and one more at the end
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def printable(text: str) -> str:
    """The text with all that a terminal would obey written out, as an interface's name may."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows to standard output: as a table on a terminal that is wide enough for it.

    On a narrower one each row is a paragraph with a line for each cell, which the terminal may
    break but nobody cuts. Where the output is no terminal the columns stand aligned, a line each.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]
    if not sys.stdout.isatty():
        _print_aligned([list(headings), *cells], widths)
        return
    console = Console(file=sys.stdout)
    if sum(widths) + _FRAME_COLUMNS * len(widths) + 1 <= console.width:
        console.print(_table(headings, cells))
    else:
        _print_paragraphs(headings, cells)


def moment(unix_s: float) -> str:
    """A time in the zone of who reads it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))


def span(seconds: float) -> str:
    """A length of time in the two units that say most."""
    whole = int(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"


def _table(headings: Sequence[str], cells: list[list[str]]) -> Table:
    table = Table()
    for heading in headings:
        table.add_column(Text(heading), no_wrap=True)
    for row in cells:
        table.add_row(*map(Text, row))
    return table


def _print_aligned(rows: list[list[str]], widths: Sequence[int]) -> None:
    for row in rows:
        padded = (
            cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)
        )
        print("  ".join(padded).rstrip())


def _print_paragraphs(headings: Sequence[str], cells: list[list[str]]) -> None:
    for number, row in enumerate(cells):
        if number:
            print()
        for heading, cell in zip(headings, row, strict=True):
            print(f"{heading}: {cell}")
