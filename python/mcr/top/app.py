"""The application of `mcr top`: it reads the daemon each second, and shows it."""

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from ..client.aio import AsyncClient
from ..protocol.selection import StatsOrder
from .help_screen import HelpScreen
from .overview_screen import OverviewScreen, RuleChoice
from .reader import DaemonReader
from .row_table import RowTable
from .rule_screen import RuleScreen
from .top_screen import TopScreen

INTERVAL_S = 1.0
"""The time between two readings, if the daemon answers within half of it."""
_TIMEOUT_S = 15.0
_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class TopApp(App[None]):
    """A daemon on the whole screen, until a key or a signal."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 2; }
    #view { height: 1; text-style: bold; }
    #filter { height: 1; border: none; padding: 0; display: none; }
    #rule { height: auto; max-height: 50%; margin-top: 1; }
    RowTable { height: 1fr; }
    RuleScreen RowTable { margin-top: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit at once", show=False, priority=True),
        Binding("question_mark", "help", "help", key_display="?"),
    ]

    def __init__(self, reader: DaemonReader, choice: RuleChoice) -> None:
        """Show what a reader reads.

        Args:
            reader: the daemon.
            choice: which rules are shown at first.
        """
        super().__init__(ansi_color=True)  # NO_COLOR depends on it before there is a theme
        self.theme = "ansi-dark"  # the terminal's own colours, dark or light
        self._reader = reader
        self._overview = OverviewScreen(reader, choice)
        self._wake = asyncio.Event()

    async def on_mount(self) -> None:
        """Read until the end."""
        loop = asyncio.get_running_loop()
        for number in _END:
            loop.add_signal_handler(number, self.exit)
        await self.push_screen(self._overview)
        self.run_worker(self._follow())
        self.set_interval(INTERVAL_S, self._show_head)

    def on_top_screen_changed(self) -> None:
        """Read without waiting for the next second."""
        self._wake.set()

    def action_help(self) -> None:
        """Show the keys."""
        if not isinstance(self.screen, HelpScreen):
            own = [*OverviewScreen.BINDINGS, *RuleScreen.BINDINGS, *RowTable.BINDINGS]
            self.push_screen(HelpScreen([*self.BINDINGS, *own]))

    def on_row_table_opened(self, event: RowTable.Opened) -> None:
        """Show the rule of the row."""
        if not isinstance(self.screen, RuleScreen):
            self.push_screen(RuleScreen(self._reader, event.rule_id))

    @property
    def _shown(self) -> TopScreen:
        """The screen that shows readings, perhaps below the help."""
        found = (each for each in reversed(self.screen_stack) if isinstance(each, TopScreen))
        return next((each for each in found if each.is_mounted), self._overview)

    def _show_head(self) -> None:
        """Show also how long an answer takes."""
        self._shown.show_head()

    async def _follow(self) -> None:
        try:
            while True:
                began_s = time.monotonic()
                self._wake.clear()
                await self._reader.read(self._shown.on_screen(), self._shown.flows_of())
                self._shown.show_reading()
                elapsed_s = time.monotonic() - began_s
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(INTERVAL_S - elapsed_s, elapsed_s)):
                        await self._wake.wait()
        finally:
            await self._reader.close()


def run(
    path: Path, chosen: Sequence[str] | None, order: StatsOrder | None, only_problems: bool
) -> int:
    """Show a daemon until a key or a signal ends it; return the exit code.

    Args:
        path: the daemon's socket, or that for observers.
        chosen: only these rules, by id, name or pattern; None means all.
        order: the order of rules at first.
        only_problems: whether only rules with a problem are shown at first.
    """
    # The mouse stays the terminal's, for selecting text.
    reader = DaemonReader(AsyncClient(path, timeout_s=_TIMEOUT_S), chosen)
    app = TopApp(reader, RuleChoice(order, only_problems))
    app.run(mouse=False)
    return app.return_code or 0
