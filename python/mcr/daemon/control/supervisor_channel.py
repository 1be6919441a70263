"""The channel to the supervisor, and the messages on it.

Owns the messages, and that the supervisor hears a pulse as long as the event loop turns.
"""

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

_PULSE_S = 0.5
_MESSAGE_BYTES = 64 << 10
_DESCRIPTORS = 4
_SAVED_S = 5.0
_WAITING = 64  # messages that the supervisor has not taken

_log = logging.getLogger("mcr.supervisor")


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class Restore(_Message):
    """The rules of an earlier control process, if a descriptor comes along."""

    kind: Literal["restore"]
    in_use: bool = False
    """Whether the workers run by them; else they are of an earlier start of the daemon."""


class Config(_Message):
    """The bytes of the configuration file come along."""

    kind: Literal["config"]


class ResolveHosts(_Message):
    """Host names shall be looked up again."""

    kind: Literal["hosts"]


class LastDeath(_Message):
    """How a worker ended that this process has not seen."""

    at: float
    cause: str


class WorkerStarted(_Message):
    """A worker runs; the channel to it comes along."""

    kind: Literal["worker"]
    number: int
    pid: int
    incarnation: int
    cpu: int | None = None
    started_at: float | None = None
    deaths: Annotated[int, Field(ge=0)] = 0
    last_death: LastDeath | None = None


class WorkerExited(_Message):
    """A worker has ended."""

    kind: Literal["worker_ended"]
    number: int
    pid: int
    incarnation: int = 0
    cause: str
    at: float
    restart_in_ms: int
    deaths: Annotated[int, Field(ge=0)]


class Note(_Message):
    """What the supervisor wants logged."""

    kind: Literal["note"]
    level: Literal["debug", "info", "warning", "error"]
    text: str


class Begin(_Message):
    """The opening messages are over."""

    kind: Literal["begin"]


class Drain(_Message):
    """The end, in order."""

    kind: Literal["drain"]


Word = Restore | Config | ResolveHosts | WorkerStarted | WorkerExited | Note | Begin | Drain
_WORD: TypeAdapter[Word] = TypeAdapter(Annotated[Word, Field(discriminator="kind")])


class SupervisorChannel:
    """Our end of it."""

    def __init__(
        self,
        descriptor: int,
        told: Callable[[Word, list[int]], None],
        gone: Callable[[], None],
    ) -> None:
        """Take the SEQPACKET socket, what takes messages, and what is called at its end.

        Whatever takes a message owns the descriptors that come with it.
        """
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._told, self._gone = told, gone
        self._waiting: deque[tuple[bytes, int | None]] = deque()
        self._saves: deque[asyncio.Future[bool]] = deque()
        self._loop = asyncio.get_running_loop()
        self._is_over = False

    def start(self) -> None:
        """Listen, and let the supervisor hear that the loop turns."""
        self._loop.add_reader(self._socket, self._receive)
        self._pulse()

    def say_ready(self, rules: int) -> None:
        """So many rules are restored, and clients are served."""
        self._send(b"Y" + rules.to_bytes(4, "little"))

    def ask_shutdown(self) -> None:
        """A client asks the daemon to end."""
        self._send(b"S")

    def ask_restart(self, number: int) -> None:
        """Have a worker killed and started again."""
        self._send(b"R" + number.to_bytes(2, "little"))

    async def say_drained(self) -> None:
        """All is reported; this process ends now."""
        self._send(b"D")
        while self._waiting and not self._is_over:
            await asyncio.sleep(0.005)

    async def keep(self, memory: int) -> bool | None:
        """Have a snapshot kept, which is closed here.

        Returns:
            Whether the state file, if there is one, was written; None if the supervisor has not
            said so in time.
        """
        saved: asyncio.Future[bool] = self._loop.create_future()
        self._saves.append(saved)
        self._send(b"K", memory)
        try:
            return await asyncio.wait_for(asyncio.shield(saved), _SAVED_S)
        except TimeoutError:
            return None

    def _pulse(self) -> None:
        if not self._waiting:  # else it hears what waits
            self._send(b"P")
        self._loop.call_later(_PULSE_S, self._pulse)

    def _send(self, message: bytes, memory: int | None = None) -> None:
        self._waiting.append((message, memory))
        if len(self._waiting) > _WAITING:
            _log.error("the supervisor takes no messages")
            self._end()
        self._flush()

    def _flush(self) -> None:
        while self._waiting and not self._is_over:
            message, memory = self._waiting[0]
            try:
                socket.send_fds(self._socket, [message], [] if memory is None else [memory])
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError:
                self._end()
                return
            self._waiting.popleft()
            if memory is not None:
                os.close(memory)
        if not self._is_over:
            self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        try:
            message, descriptors, flags, _ = socket.recv_fds(
                self._socket, _MESSAGE_BYTES, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            message, descriptors, flags = b"", [], 0
        if not message:
            self._end()
            return
        if message[:1] == b"k" and not descriptors:
            if self._saves:
                saved = self._saves.popleft()
                if not saved.done():
                    saved.set_result(message[1:] == b"\x00")
            return
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ValueError("cut short")
            word = _WORD.validate_json(message)
        except ValueError as error:
            for descriptor in descriptors:
                os.close(descriptor)
            _log.error("the supervisor says what is not known: %s", error)
            return
        self._told(word, descriptors)

    def _end(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        for _message, memory in self._waiting:
            if memory is not None:
                os.close(memory)
        self._waiting.clear()
        self._gone()
