"""The channel to one worker: requests and their answers, and what it tells by itself.

Owns the frames, their limits and times. What is asked is the business of `pool`.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

from .. import limits
from ..api.jsonrpc import encode
from .messages import Failure, WorkerMessage, read_message

ANSWER_S = 10.0
"""How long a worker may take for an answer, in seconds."""
_LENGTH_BYTES = 4
_PAUSE_S = 0.002
_LONG_S = 0.05

_log = logging.getLogger("mcr.workers")


class ChannelLost(Exception):
    """The channel is over: the worker died, closed it, or said what no worker says."""


class ChannelSilent(ChannelLost):
    """The worker has not answered in time."""


class WorkerRefused(Exception):
    """The worker says why it cannot do what it was asked; nothing has changed there."""

    def __init__(self, failure: Failure) -> None:
        """Take its reason."""
        self.failure = failure
        super().__init__(failure["message"])


class WorkerChannel:
    """One channel, from its first to its last byte."""

    def __init__(
        self,
        channel: socket.socket,
        told: Callable[[WorkerMessage], None],
        lost: Callable[["WorkerChannel"], None],
    ) -> None:
        """Take the socket, what takes events, and what is called once when it is over."""
        self._channel = channel
        self._told, self._lost = told, lost
        self._writer: asyncio.StreamWriter | None = None
        self._turn = asyncio.Lock()
        self._answers: asyncio.Queue[WorkerMessage | None] = asyncio.Queue(maxsize=1)
        self._asked = 0
        self._expects = False
        self._reading = asyncio.get_running_loop().create_task(self._read())
        self.is_over = False
        self._events, self._counted_s = 0.0, time.monotonic()
        self._owed_s = 0.0  # to others, for what the worker has told by itself

    async def ask(self, request: dict[str, Any], within_s: float = ANSWER_S) -> dict[str, Any]:
        """Ask, and return what the worker says of it.

        Raises:
            WorkerRefused, ChannelLost, ChannelSilent: as they say.
        """
        return await self.ask_encoded(encode(request)[1:], within_s)

    async def ask_encoded(self, members: bytes, within_s: float = ANSWER_S) -> dict[str, Any]:
        """The same with the members as JSON, without the brace before them."""
        async with self._turn:
            await self._send(members, within_s)
            answer = await self._answer(within_s)
            return answer.get("ok", {})

    def close(self) -> None:
        """End the channel; whoever waits for an answer gets `ChannelLost`."""
        if self._writer is not None:
            self._reading.cancel()
        self._end()

    async def _send(self, members: bytes, within_s: float) -> None:
        self._asked += 1
        start = b'{"id":%d,' % self._asked
        length = len(start) + len(members)
        if self.is_over or (self._writer is None and not await self._opened()):
            raise ChannelLost("the channel is closed")
        assert self._writer is not None
        if length > limits.FRAME_BYTES:
            message = f"the rules need {length} bytes, more than a worker takes at once"
            raise WorkerRefused({"kind": "limit", "rule": None, "message": message})
        self._expects = True
        self._writer.write(length.to_bytes(_LENGTH_BYTES, "little") + start)
        self._writer.write(members)
        try:
            await asyncio.wait_for(self._writer.drain(), within_s)
        except TimeoutError:
            raise self._silent(within_s) from None
        except OSError:
            self.close()
            raise ChannelLost("the channel broke") from None

    async def _answer(self, within_s: float) -> WorkerMessage:
        try:
            answer = await asyncio.wait_for(self._answers.get(), within_s)
        except TimeoutError:
            raise self._silent(within_s) from None
        if answer is None:
            raise ChannelLost("the worker ended the channel")
        error = answer.get("error")
        if isinstance(error, dict):
            raise WorkerRefused(error)
        return answer

    def _silent(self, within_s: float) -> ChannelSilent:
        self.close()
        return ChannelSilent(f"the worker did not answer for {within_s:.0f} s")

    async def _opened(self) -> bool:
        """Wait until the reading task has the stream."""
        while self._writer is None and not self.is_over:
            await asyncio.sleep(0)
        return self._writer is not None

    async def _read(self) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=self._channel)
        if self.is_over:  # before asyncio had begun to watch the socket, which it would not forgive
            self._writer.transport.abort()
            return
        try:
            while True:
                head = await reader.readexactly(_LENGTH_BYTES)
                length = int.from_bytes(head, "little")
                if length > limits.FRAME_BYTES:
                    raise ValueError(f"a message of {length} bytes")
                await self._take_turn(await reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            pass
        except ValueError as error:
            _log.warning("a worker says what no worker says: %s", str(error)[:200])
        self._end()

    async def _take_turn(self, body: bytes) -> None:
        """Take a message; one that costs much, or that nobody asked for, leaves others as much."""
        began_s = time.monotonic()
        message = read_message(body)
        is_event = "event" in message
        if is_event:
            self._count_event(began_s)
        await self._take(message)
        took_s = time.monotonic() - began_s
        if is_event or took_s > _LONG_S:
            self._owed_s += took_s
        # Less is not worth a sleep: the loop's clock ticks in milliseconds.
        pause_s, self._owed_s = (
            (self._owed_s, 0.0) if self._owed_s > _PAUSE_S else (0, self._owed_s)
        )
        await asyncio.sleep(pause_s)

    def _count_event(self, now_s: float) -> None:
        """Bear with so many events at once, and so many a second (a leaky bucket)."""
        leaked = (now_s - self._counted_s) * limits.WORKER_EVENTS_A_SECOND
        self._events, self._counted_s = max(0.0, self._events - leaked) + 1, now_s
        if self._events > limits.WORKER_EVENTS:
            raise ValueError(f"more than {limits.WORKER_EVENTS_A_SECOND} events a second")

    async def _take(self, message: WorkerMessage) -> None:
        if "event" in message:
            self._told(message)
        elif isinstance(message.get("error"), str):
            raise ValueError("a refusal without its kind")
        elif self._expects and message.get("id") == self._asked:
            self._expects = False
            await self._answers.put(message)
        else:
            raise ValueError("an answer to nothing that was asked")

    def _end(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        if self._writer is not None:
            self._writer.transport.abort()
        while not self._answers.empty():
            self._answers.get_nowait()
        self._answers.put_nowait(None)
        self._lost(self)
