"""The screen that lists the keys."""

from collections.abc import Iterable
from itertools import zip_longest
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

_NAMES = {
    "slash": "/",
    "question_mark": "?",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "ctrl+c": "Ctrl-C",
}
_HALF_COLUMNS = 40


class HelpScreen(ModalScreen[None]):
    """All keys, made from the bindings that they are."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "app.pop_screen", "back")
    ]

    def __init__(self, command: str, bindings: Iterable[BindingType], words: str) -> None:
        """List these.

        Args:
            command: whose keys they are.
            bindings: the keys.
            words: what colours and columns mean.
        """
        super().__init__()
        self._title, self._words = f"{command}: keys", words
        self._keys = [each for each in bindings if isinstance(each, Binding)]

    def compose(self) -> ComposeResult:
        """One text."""
        lines = [f"{_keys(each.key):14} {each.description}" for each in self._keys]
        half = (len(lines) + 1) // 2
        pairs = zip_longest(lines[:half], lines[half:], fillvalue="")
        rows = [f"{left:{_HALF_COLUMNS}}{right}" for left, right in pairs]
        yield Static(Text("\n".join([self._title, "", *rows, "", self._words])))


def _keys(keys: str) -> str:
    known = (_NAMES.get(key, key.capitalize()) if len(key) > 1 else key for key in keys.split(","))
    return ", ".join(known)
