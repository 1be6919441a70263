"""The taps of clients: the memory of their rings, and their start and end in the workers.

A tap belongs to a connection and ends with it. Workers that are restarted continue its rings.
"""

import asyncio
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ...protocol.constants import TAPS, ErrorCode
from ...shared_memory import reopen_read_only
from ...taps.filter import TapFilter
from ...taps.rings import TapRings
from .api.errors import RpcError
from .api.server import Connection
from .workers.channel import WorkerChannel
from .workers.pool import WorkerPool
from .workers.worker import Worker


@dataclass(frozen=True, slots=True)
class _Tap:
    """A tap, as workers get it."""

    number: int
    filter: Mapping[str, Any]
    rings: TapRings


class ClientTaps:
    """All taps of the daemon's clients."""

    def __init__(self, pool: WorkerPool) -> None:
        """Have none."""
        self._pool = pool
        self._taps: dict[int, _Tap] = {}
        self._last = 0
        self._ending: set[asyncio.Task[None]] = set()
        pool.on_rules_given = self._resume

    async def start(self, client: Connection, wanted: TapFilter, rule_id: str | None) -> None:
        """Have all workers record; the rings go to the client with the next answer.

        Raises:
            RuleError, RpcError: nothing records.
        """
        if client.on_end is not None:
            message = "a connection has one capture; open another one"
            raise RpcError(ErrorCode.LIMIT, message)
        if len(self._taps) >= TAPS:
            message = f"{TAPS} captures and traces run already; end one of them"
            raise RpcError(ErrorCode.LIMIT, message)
        self._last += 1
        rings = TapRings(len(self._pool.workers), wanted.ring_bytes)
        tap = _Tap(self._last, wanted.for_engines(rule_id), rings)
        self._taps[tap.number] = tap
        client.on_end = lambda: self._spawn_end(tap)
        try:
            with ExitStack() as opened:
                descriptors = opened.enter_context(reopen_read_only(rings.descriptors))
                await self._pool.request_from_each(lambda each: _request(tap, each))
                client.lines.attach(map(os.dup, descriptors))
        except BaseException:
            client.on_end = None
            await self._end(tap)
            raise
        if client.lines.is_closed and client.on_end is not None:
            client.end()

    async def _resume(self, worker: Worker, channel: WorkerChannel) -> None:
        """Have a restarted worker record."""
        for tap in list(self._taps.values()):
            members, descriptor = _request(tap, worker)
            await channel.request(members, descriptor=descriptor)

    def _spawn_end(self, tap: _Tap) -> None:
        task = asyncio.get_running_loop().create_task(self._end(tap))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, tap: _Tap) -> None:
        self._taps.pop(tap.number, None)
        try:
            await self._pool.request_from_each(
                lambda _each: ({"do": "untap", "number": tap.number}, None)
            )
        finally:
            tap.rings.close()


def _request(tap: _Tap, worker: Worker) -> tuple[dict[str, Any], int]:
    members = {"do": "tap", "number": tap.number, "filter": tap.filter}
    return members, tap.rings.descriptors[worker.number]
