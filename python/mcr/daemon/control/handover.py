"""The part of control in the replacement of the daemon by another version.

In the old daemon it holds all changes while the new one starts, and stops the engines. The
supervisor says when, and whether to resume or to leave.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from .api.server import Server
from .rules.transactions import Transactions
from .supervisor_channel import HandoverStep, SupervisorChannel
from .workers.pool import WorkerPool

_STOP_S = 5.0
_CLOSE_S = 0.5  # for answers in progress


class ControlHandover:
    """A handover, as control takes part in it."""

    def __init__(
        self,
        pool: WorkerPool,
        changes: Transactions,
        servers: Sequence[Server],
        supervisor: SupervisorChannel,
        exit_process: Callable[[int], None],
    ) -> None:
        """Use the parts that a handover concerns."""
        self._pool, self._changes, self._servers = pool, changes, servers
        self._supervisor, self._exit = supervisor, exit_process
        self._task: asyncio.Task[None] | None = None
        self._holds = False
        self.owns_paths = True
        """Whether to remove the sockets' paths if the supervisor dies: no other daemon has them."""

    def do(self, step: HandoverStep) -> None:
        """Take the next step, or go back."""
        if step == "own":
            self.owns_paths = True
            return
        if self._task is not None:
            self._task.cancel()
        work = {
            "hold": self._hold,
            "stop_engines": self._stop_engines,
            "resume": self._resume,
            "leave": self._leave,
        }[step]
        self._task = asyncio.ensure_future(work())

    async def _hold(self) -> None:
        """Make no more changes: those that clients request wait."""
        self.owns_paths = False
        await self._pool.lock.acquire()
        self._holds = True
        self._supervisor.send_step(b"H")

    async def _stop_engines(self) -> None:
        """Have the engines send what they have received; clients that connect wait."""
        for server in self._servers:
            server.pause()
        await self._pool.stop(_STOP_S)
        self._supervisor.send_step(b"E")

    async def _resume(self) -> None:
        """Continue as if there had been no handover."""
        for server in self._servers:
            server.resume()
        self.owns_paths = True
        self._release()

    async def _leave(self) -> None:
        """End, since another daemon relays; changes that have waited are refused."""
        self._changes.is_draining = True
        self._release()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*(server.close(_CLOSE_S) for server in self._servers))
        self._exit(0)

    def _release(self) -> None:
        if self._holds:
            self._holds = False
            self._pool.lock.release()
