"""The application of `mcr fleet top`: it reads the servers each second, and shows the nodes."""

from ..fleet.fleet import Fleet
from ..fleet.nats_connection import NatsSettings
from .fleet_reader import FleetReader
from .full_screen_app import FullScreenApp, keys_of
from .help_screen import HelpScreen
from .node_screen import NodeScreen
from .nodes_screen import NodesScreen
from .row_table import RowTable

_WORDS = """\
Red: a node without its rules, one that is silent, loses copies or has an alarm.
Yellow: it does not have the newest revision yet."""


class FleetTopApp(FullScreenApp):
    """The nodes of a fleet on the whole screen, until a key or a signal."""

    def __init__(self, reader: FleetReader) -> None:
        """Show what a reader reads."""
        self._reader = reader
        super().__init__(NodesScreen(reader))

    async def read(self) -> None:
        """Read the servers."""
        await self._reader.read()

    async def close_reader(self) -> None:
        """Close the connection to the servers."""
        await self._reader.close()

    def help_screen(self) -> HelpScreen:
        """The keys of all screens."""
        keys = keys_of(FullScreenApp, NodesScreen, NodeScreen, RowTable)
        return HelpScreen("mcr fleet top", keys, _WORDS)

    def on_row_table_opened(self, event: RowTable.Opened) -> None:
        """Show the node of the row."""
        if not isinstance(self.screen, NodeScreen):
            self.push_screen(NodeScreen(self._reader, event.target))


def run(settings: NatsSettings) -> int:
    """Show a fleet until a key or a signal ends it; return the exit code.

    Raises:
        SourceError: a certificate or credentials cannot be read.
    """
    app = FleetTopApp(FleetReader(Fleet(settings), ",".join(settings.servers)))
    app.run(mouse=False)  # the mouse stays the terminal's, for selecting text
    return app.return_code or 0
