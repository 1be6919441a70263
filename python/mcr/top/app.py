"""The application of `mcr top`: it reads the daemon each second, and shows it."""

from collections.abc import Sequence
from pathlib import Path

from ..client.aio import AsyncClient
from ..protocol.selection import StatsOrder
from .full_screen_app import FullScreenApp, keys_of
from .help_screen import HelpScreen
from .overview_screen import OverviewScreen, RuleChoice
from .reader import DaemonReader
from .row_table import RowTable
from .rule_screen import RuleScreen
from .top_screen import TopScreen

_TIMEOUT_S = 15.0
_WORDS = """\
Yellow: something is wrong, as the state says. Red: an alarm, or copies are lost.
Trend: the last seconds; the highest rate is a full bar, a space was not read."""


class TopApp(FullScreenApp):
    """A daemon on the whole screen, until a key or a signal."""

    def __init__(self, reader: DaemonReader, choice: RuleChoice) -> None:
        """Show what a reader reads.

        Args:
            reader: the daemon.
            choice: which rules are shown at first.
        """
        self._reader = reader
        self._overview = OverviewScreen(reader, choice)
        super().__init__(self._overview)

    async def read(self) -> None:
        """Read the daemon: what is on the screen, and other rules as time permits."""
        shown = self.shown
        assert isinstance(shown, TopScreen)
        await self._reader.read(shown.on_screen(), shown.flows_of())

    async def close_reader(self) -> None:
        """Close the connection to the daemon."""
        await self._reader.close()

    def help_screen(self) -> HelpScreen:
        """The keys of all screens."""
        keys = keys_of(FullScreenApp, OverviewScreen, RuleScreen, RowTable)
        return HelpScreen("mcr top", keys, _WORDS)

    def on_row_table_opened(self, event: RowTable.Opened) -> None:
        """Show the rule of the row."""
        if not isinstance(self.screen, RuleScreen):
            self.push_screen(RuleScreen(self._reader, event.target))


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
