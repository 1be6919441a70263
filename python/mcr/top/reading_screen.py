"""What the screens of a full-screen application have in common: a head, and readings."""

from abc import abstractmethod

from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static


class ReadingScreen(Screen[None]):
    """A screen that shows what has been read last."""

    class Changed(Message):
        """Something else is shown now, which has to be read."""

    def __init__(self) -> None:
        """Show nothing yet."""
        super().__init__()
        self.head = Static(id="head")

    @abstractmethod
    def show_reading(self) -> None:
        """Show what has been read."""

    @abstractmethod
    def show_head(self) -> None:
        """Show what is read, how old it is, and its sums."""
