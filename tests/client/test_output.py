"""Tables for people: their width, their colours, and their spans of time."""

import io
import re

import pytest
from rich.console import Console

from mcr.cli import output, terminal_table

LONG = (
    "239.1.1.2%lo:5001 to 239.2.0.2%lo:6001,ttl=8 127.0.0.1:7001"
    " 239.2.0.3%lo:6001,ttl=8 127.0.0.1:7003"
)


class Terminal(io.StringIO):
    """Standard output that claims to be a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.mark.parametrize("width", [10, 80])
def test_colours_mean_something(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the state of a rule has one, or all of a rule that loses; none with NO_COLOR."""

    def shown() -> str:
        terminal = Terminal()
        monkeypatch.setattr("sys.stdout", terminal)
        rows = [(name, name) for name in ("flows", "waits", "loses", "is off")]
        output.show_table(("rule", "state"), rows, ["green", "yellow", "red", ""])
        return terminal.getvalue()

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(terminal_table, "Console", lambda file: Console(file=file, width=width))
    text = shown()
    for colour, word, times in ((32, "flows", 1), (33, "waits", 1), (31, "loses", 2)):
        assert len(re.findall(rf"\x1b\[{colour}m[^\x1b]*{word}", text)) == times, text
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in shown()


@pytest.mark.parametrize("width", [20, 40, 80, 140, 400])
def test_narrow_terminals_cut_no_rule(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table where it fits, else one line for each cell, never truncated."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr(terminal_table, "Console", lambda file: Console(file=file, width=width))
    output.show_table(("id", "rule"), [("a", LONG), ("b", "a[red]b\x1b[2J")])
    printed = terminal.getvalue()
    assert LONG in printed
    assert "a[red]b\\x1b[2J" in printed
    assert ("│" in printed) == (width > len(LONG) + 20)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (61, "1 min 1 s"), (7384.2, "2 h 3 min"), (90_000, "1 d 1 h")],
)
def test_spans(seconds: float, text: str) -> None:
    """Two units are enough."""
    assert output.span(seconds) == text
