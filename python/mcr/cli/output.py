"""Output for people: tables of a daemon's answers, and times.

Owns the layout and computes no numbers. No text is cut, and none can move a terminal's cursor.
"""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

from ..protocol.text import printable

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def show_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], styles: Sequence[str] = ()
) -> None:
    """Print rows to standard output: in columns, on a terminal each row in its style."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(_cells, column)) for column in zip(headings, *cells, strict=True)]
    if not sys.stdout.isatty():
        _print_aligned([list(headings), *cells], widths)
        return
    from .terminal_table import print_table  # noqa: PLC0415 -- slow to load

    print_table(headings, cells, widths, styles)


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


def _cells(text: str) -> int:
    """The columns of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 -- slow to load, and few texts need it

    return cell_len(text)


def _print_aligned(rows: list[list[str]], widths: Sequence[int]) -> None:
    for row in rows:
        padded = (
            cell + " " * (width - _cells(cell)) for cell, width in zip(row, widths, strict=True)
        )
        print("  ".join(padded).rstrip())
