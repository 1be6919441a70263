"""What full-screen applications have in common: they read each second, and show it."""

import asyncio
import signal
import time
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.dom import DOMNode

from .help_screen import HelpScreen
from .reading_screen import ReadingScreen

INTERVAL_S = 1.0
"""The time between two readings, if one takes less than half of it."""
_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class FullScreenApp(App[None]):
    """One screen that is always there, and others above it."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 2; }
    #view { height: 1; text-style: bold; }
    #filter { height: 1; border: none; padding: 0; display: none; }
    .details { height: auto; max-height: 50%; margin-top: 1; }
    RowTable { height: 1fr; }
    RuleScreen RowTable, NodeScreen RowTable { margin-top: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit at once", show=False, priority=True),
        Binding("question_mark", "help", "help", key_display="?"),
    ]

    def __init__(self, first: ReadingScreen) -> None:
        """Show this screen first."""
        super().__init__(ansi_color=True)  # NO_COLOR depends on it before there is a theme
        self.theme = "ansi-dark"  # the terminal's own colours, dark or light
        self._first = first
        self._wake = asyncio.Event()

    @abstractmethod
    async def read(self) -> None:
        """Read what the screens show."""

    @abstractmethod
    async def close_reader(self) -> None:
        """Read no more."""

    @abstractmethod
    def help_screen(self) -> HelpScreen:
        """The keys of all screens."""

    async def on_mount(self) -> None:
        """Read until the end."""
        loop = asyncio.get_running_loop()
        for number in _END:
            loop.add_signal_handler(number, self.exit)
        await self.push_screen(self._first)
        self._following = self.run_worker(self._follow())
        self.set_interval(INTERVAL_S, self._show_head)

    async def on_unmount(self) -> None:
        """Close what is read."""
        self._following.cancel()
        await self.close_reader()

    def on_reading_screen_changed(self) -> None:
        """Read without waiting for the next second."""
        self._wake.set()

    def action_help(self) -> None:
        """Show the keys."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(self.help_screen())

    @property
    def shown(self) -> ReadingScreen:
        """The screen that shows readings, perhaps below the help."""
        found = (each for each in reversed(self.screen_stack) if isinstance(each, ReadingScreen))
        return next((each for each in found if each.is_mounted), self._first)

    def _show_head(self) -> None:
        """Show also how long an answer takes."""
        self.shown.show_head()

    async def _follow(self) -> None:
        while True:
            began_s = time.monotonic()
            self._wake.clear()
            await self.read()
            self.shown.show_reading()
            elapsed_s = time.monotonic() - began_s
            with suppress(TimeoutError):
                async with asyncio.timeout(max(INTERVAL_S - elapsed_s, elapsed_s)):
                    await self._wake.wait()


def keys_of(*owners: type[DOMNode]) -> Sequence[BindingType]:
    """The bindings of screens and widgets, in their order."""
    return [each for owner in owners for each in owner.BINDINGS]
