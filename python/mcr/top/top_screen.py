"""What the screens of `mcr top` have in common: the head, and what they need to be read."""

from abc import abstractmethod
from collections.abc import Sequence

from ..protocol.selection import has_problem
from .head import head
from .reader import DaemonReader
from .reading_screen import ReadingScreen


class TopScreen(ReadingScreen):
    """A screen that shows what a reader has read."""

    def __init__(self, reader: DaemonReader) -> None:
        """Show a reader's daemon."""
        super().__init__()
        self.reader = reader

    @abstractmethod
    def on_screen(self) -> Sequence[str]:
        """The ids of the rules that are visible."""

    @abstractmethod
    def flows_of(self) -> Sequence[str] | None:
        """The rules whose flows are shown, None for all of them; empty for none."""

    def show_head(self) -> None:
        """Show the daemon, and the sums of its rules."""
        now = self.reader.time
        problems = sum(has_problem(rule, now) for rule in self.reader.rules.values())
        self.head.update(head(self.reader, problems, self.size.width))


def flows_hint(reader: DaemonReader, otherwise: str) -> str:
    """Why no flows are known."""
    if reader.flows is None:
        return "reading flows"
    hint = "the daemon does not count flows; start it with mcr serve --flows"
    return otherwise if reader.flows.counted else hint
