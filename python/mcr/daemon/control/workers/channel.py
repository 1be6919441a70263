"""The channel from control to one worker: requests with their answers, and unrequested events.

Owns the frames and their limits in size and time. `pool` decides what to request.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

from ....log_levels import logger_of
from .. import limits
from ..api.jsonrpc import encode
from .messages import Failure, WorkerMessage, read_message

ANSWER_S = 10.0
"""The time limit for an answer, in seconds."""
_LENGTH_BYTES = 4
_SHORTEST_PAUSE_S = 0.002  # a shorter sleep is imprecise: the loop's clock ticks in milliseconds
_LONG_READ_S = 0.05

_log = logger_of("security")


class ChannelLost(Exception):
    """The channel is closed: the worker died, closed it, or violated the protocol."""


class ChannelSilent(ChannelLost):
    """The worker did not answer in time."""


class WorkerRefused(Exception):
    """The worker refused a request and reported why; nothing has changed in the worker."""

    def __init__(self, failure: Failure) -> None:
        """Keep the reason."""
        self.failure = failure
        super().__init__(failure["message"])


class WorkerChannel:
    """The channel to one incarnation of a worker."""

    def __init__(
        self,
        channel: socket.socket,
        on_event: Callable[[WorkerMessage], None],
        on_close: Callable[["WorkerChannel"], None],
    ) -> None:
        """Take ownership of the socket and begin to read.

        Args:
            channel: a non-blocking SOCK_STREAM socket to the worker.
            on_event: called for each event.
            on_close: called once, when the channel is closed by either side.
        """
        self._channel = channel
        self._on_event, self._on_close = on_event, on_close
        self._writer: asyncio.StreamWriter | None = None
        self._lock = asyncio.Lock()
        self._answers: asyncio.Queue[WorkerMessage | None] = asyncio.Queue(maxsize=1)
        self._last_id = 0
        self._awaits_answer = False
        self._reader_task = asyncio.get_running_loop().create_task(self._read())
        self.is_closed = False
        self._events, self._counted_s = 0.0, time.monotonic()
        self._owed_s = 0.0  # time that events of this worker took, to be left to other tasks

    async def request(
        self,
        members: dict[str, Any],
        timeout_s: float = ANSWER_S,
        *,
        descriptor: int | None = None,
    ) -> dict[str, Any]:
        """Send a request, with a descriptor, and return the `ok` member of its answer.

        Raises:
            WorkerRefused: the worker refused.
            ChannelSilent: no answer within `timeout_s` seconds; the channel is closed then.
            ChannelLost: the channel is closed.
        """
        return await self.request_encoded(encode(members)[1:], timeout_s, descriptor=descriptor)

    async def request_encoded(
        self, members: bytes, timeout_s: float = ANSWER_S, *, descriptor: int | None = None
    ) -> dict[str, Any]:
        """Like `request`, with the members as JSON without the opening brace."""
        async with self._lock:
            await self._send(members, timeout_s, descriptor)
            answer = await self._answer(timeout_s)
            return answer.get("ok", {})

    def close(self) -> None:
        """Close the channel; a pending request raises `ChannelLost`."""
        if self._writer is not None:
            self._reader_task.cancel()
        self._end()

    async def _send(self, members: bytes, timeout_s: float, descriptor: int | None) -> None:
        self._last_id += 1
        start = b'{"id":%d,' % self._last_id
        length = len(start) + len(members)
        if self.is_closed or (self._writer is None and not await self._wait_for_stream()):
            raise ChannelLost("the channel is closed")
        assert self._writer is not None
        if length > limits.FRAME_BYTES:
            message = f"the rules need {length} bytes; a worker accepts {limits.FRAME_BYTES}"
            raise WorkerRefused({"kind": "limit", "rule": None, "message": message})
        self._awaits_answer = True
        head = length.to_bytes(_LENGTH_BYTES, "little") + start
        if descriptor is not None:
            # Nothing waits in the writer, as every earlier request was answered.
            try:
                socket.send_fds(self._channel, [head[:1]], [descriptor])
            except OSError:
                self.close()
                raise ChannelLost("the channel failed") from None
            head = head[1:]
        self._writer.write(head)
        self._writer.write(members)
        try:
            await asyncio.wait_for(self._writer.drain(), timeout_s)
        except TimeoutError:
            raise self._silence(timeout_s) from None
        except OSError:
            self.close()
            raise ChannelLost("the channel failed") from None

    async def _answer(self, timeout_s: float) -> WorkerMessage:
        try:
            answer = await asyncio.wait_for(self._answers.get(), timeout_s)
        except TimeoutError:
            raise self._silence(timeout_s) from None
        if answer is None:
            raise ChannelLost("the worker closed the channel")
        error = answer.get("error")
        if isinstance(error, dict):
            raise WorkerRefused(error)
        return answer

    def _silence(self, timeout_s: float) -> ChannelSilent:
        self.close()
        return ChannelSilent(f"the worker did not answer for {timeout_s:.0f} s")

    async def _wait_for_stream(self) -> bool:
        """Wait until `_read` has opened the stream; return whether it is open."""
        while self._writer is None and not self.is_closed:
            await asyncio.sleep(0)
        return self._writer is not None

    async def _read(self) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=self._channel)
        if self.is_closed:  # asyncio cannot watch a socket that was closed before this point
            self._writer.transport.abort()
            return
        try:
            while True:
                head = await reader.readexactly(_LENGTH_BYTES)
                length = int.from_bytes(head, "little")
                if length > limits.FRAME_BYTES:
                    raise ValueError(f"a message of {length} bytes")
                await self._handle_fairly(await reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            pass
        except ValueError as error:
            _log.warning("a worker violated the protocol: %s", str(error)[:200])
        self._end()

    async def _handle_fairly(self, body: bytes) -> None:
        """Handle a message; after an event or a long message, leave other tasks as much time."""
        began_s = time.monotonic()
        message = read_message(body)
        is_event = "event" in message
        if is_event:
            self._count_event(began_s)
        await self._handle(message)
        elapsed_s = time.monotonic() - began_s
        if is_event or elapsed_s > _LONG_READ_S:
            self._owed_s += elapsed_s
        pause_s, self._owed_s = (
            (self._owed_s, 0.0) if self._owed_s > _SHORTEST_PAUSE_S else (0, self._owed_s)
        )
        await asyncio.sleep(pause_s)

    def _count_event(self, now_s: float) -> None:
        """Permit a burst of events and then a steady rate (a leaky bucket)."""
        leaked = (now_s - self._counted_s) * limits.WORKER_EVENTS_A_SECOND
        self._events, self._counted_s = max(0.0, self._events - leaked) + 1, now_s
        if self._events > limits.WORKER_EVENTS:
            raise ValueError(f"more than {limits.WORKER_EVENTS_A_SECOND} events a second")

    async def _handle(self, message: WorkerMessage) -> None:
        if "event" in message:
            self._on_event(message)
        elif isinstance(message.get("error"), str):
            raise ValueError("an error without its kind")
        elif self._awaits_answer and message.get("id") == self._last_id:
            self._awaits_answer = False
            await self._answers.put(message)
        else:
            raise ValueError("an answer without a request")

    def _end(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        if self._writer is not None:
            self._writer.transport.abort()
        while not self._answers.empty():
            self._answers.get_nowait()
        self._answers.put_nowait(None)
        self._on_close(self)
