"""What the servers of a fleet said last about its nodes."""

import time

from ..fleet.fleet import Fleet
from ..fleet.fleet_nodes import FleetNode, FleetNodes
from ..fleet.source import SourceError


class FleetReader:
    """The newest readings of a fleet."""

    def __init__(self, fleet: Fleet, servers: str) -> None:
        """Connect with the first reading.

        Args:
            fleet: the fleet, which is not open yet.
            servers: the URLs of its servers, to show.
        """
        self.servers = servers
        self.nodes: list[FleetNode] = []
        self.failure: str | None = None
        """Why the last reading failed; None if it did not."""
        self.time = 0.0
        """The Unix time of the last reading that did not."""
        self._fleet, self._nodes = fleet, FleetNodes(fleet)
        self._is_open = False
        self._answered_at_s = time.monotonic()

    async def read(self) -> None:
        """Read once; what was read stays if no server answers."""
        try:
            if not self._is_open:
                await self._fleet.__aenter__()
                self._is_open = True
            self.nodes = await self._nodes.read()
        except SourceError as error:
            self.failure = str(error)
            return
        self.failure, self.time = None, time.time()
        self._answered_at_s = time.monotonic()

    async def close(self) -> None:
        """Close the connection."""
        if self._is_open:
            await self._fleet.close()

    @property
    def age_s(self) -> float:
        """The time since the servers have answered."""
        return time.monotonic() - self._answered_at_s

    def node(self, name: str) -> FleetNode | None:
        """A node; None if there is none any more."""
        return next((each for each in self.nodes if each.name == name), None)
