"""Control's channel to the supervisor, with its messages.

Sends a heartbeat as long as the event loop runs.
"""

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ...choices import Facility, Level
from ...log_levels import logger_of
from ..seqpacket import receive_message

_HEARTBEAT_S = 0.5
_MESSAGE_BYTES = 64 << 10
_DESCRIPTORS = 4
_SAVE_S = 5.0
_QUEUE_LIMIT = 64  # messages that the supervisor has not read

_log = logger_of("supervisor")


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, defer_build=True)


class Restore(_Message):
    """The snapshot of an earlier control process, if the message has a descriptor."""

    kind: Literal["restore"]
    in_use: bool = False
    """Whether the workers relay by these rules; else they are from an earlier daemon."""


class Config(_Message):
    """The files of the configuration, in the message's descriptor (`mcr.daemon.file_pack`)."""

    kind: Literal["config"]
    include: list[str] = []
    """The patterns by which included files were read."""
    fault: str | None = None
    """Why they could not be read; then there is no descriptor."""
    number: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """What `send_reloaded` answers with; 0 at the start."""


class ResolveHosts(_Message):
    """Request to resolve host names again."""

    kind: Literal["hosts"]
    number: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """As that of `Config`."""


class LastDeath(_Message):
    """The last exit of a worker, before this process started."""

    at: float
    """Seconds since 1970."""
    monotonic_s: float
    """The same moment by CLOCK_MONOTONIC."""
    cause: str


class WorkerStarted(_Message):
    """A worker runs; the message's descriptor is the channel to it."""

    kind: Literal["worker"]
    number: int
    pid: int
    incarnation: int
    cpu: int | None = None
    started_at: float | None = None
    deaths: Annotated[int, Field(ge=0)] = 0
    last_death: LastDeath | None = None


class WorkerExited(_Message):
    """A worker has exited."""

    kind: Literal["worker_ended"]
    number: int
    pid: int
    incarnation: int = 0
    cause: str
    at: float
    monotonic_s: float
    restart_in_ms: int
    deaths: Annotated[int, Field(ge=0)]


class Note(_Message):
    """A log record of the supervisor."""

    kind: Literal["note"]
    level: Level
    facility: Facility
    text: str


class Begin(_Message):
    """The end of the messages that initialize a control process."""

    kind: Literal["begin"]


class Drain(_Message):
    """Request to shut down cleanly."""

    kind: Literal["drain"]


class Check(_Message):
    """Request to read the rules of the daemon that is taken over, and to wait for its workers."""

    kind: Literal["check"]


HandoverStep = Literal["hold", "stop_engines", "resume", "leave", "own"]


class Handover(_Message):
    """A step in the replacement of the daemon by another version (`handover`)."""

    kind: HandoverStep


SupervisorMessage = (
    Restore
    | Config
    | ResolveHosts
    | WorkerStarted
    | WorkerExited
    | Note
    | Begin
    | Drain
    | Check
    | Handover
)
_ADAPTER: TypeAdapter[SupervisorMessage] = TypeAdapter(
    Annotated[SupervisorMessage, Field(discriminator="kind")]
)


class SupervisorChannel:
    """Control's end of the channel."""

    def __init__(
        self,
        descriptor: int,
        on_message: Callable[[SupervisorMessage, list[int]], None],
        on_close: Callable[[], None],
    ) -> None:
        """Take ownership of the socket.

        Args:
            descriptor: SEQPACKET socket to the supervisor.
            on_message: called for each message; owns the descriptors that come with it.
            on_close: called once, when the channel is closed.
        """
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._on_message, self._on_close = on_message, on_close
        self._queue: deque[tuple[bytes, int | None]] = deque()
        self._saves: deque[asyncio.Future[bool]] = deque()
        self._loop = asyncio.get_running_loop()
        self._is_closed = False

    def start(self) -> None:
        """Begin to receive messages and to send heartbeats."""
        self._loop.add_reader(self._socket, self._receive)
        self._send_heartbeat()

    def send_ready(self, rules: int) -> None:
        """Report that clients are served, with this many rules."""
        self._send(b"Y" + rules.to_bytes(4, "little"))

    def send_step(self, done: bytes) -> None:
        """Report a step of a handover: `H` held, `E` engines stopped, `V` rules checked."""
        self._send(done)

    def request_shutdown(self) -> None:
        """Request the shutdown of the daemon on behalf of a client."""
        self._send(b"S")

    def request_configuration(self, memory: int) -> None:
        """Request the configuration anew, with these include patterns; closes the descriptor."""
        self._send(b"L", memory)

    def send_reloaded(self, number: int) -> None:
        """Report that what came with this number was applied or refused."""
        self._send(b"A" + number.to_bytes(4, "little"))

    def request_restart(self, number: int, pid: int) -> None:
        """Request that this process of the worker with this number is killed and restarted."""
        self._send(b"R" + struct.pack("<HI", number, pid))

    async def send_drained(self) -> None:
        """Report that draining is complete; wait until all messages are sent."""
        self._send(b"D")
        while self._queue and not self._is_closed:
            await asyncio.sleep(0.005)

    async def keep(self, memory: int) -> bool | None:
        """Give the supervisor a snapshot to keep; closes the descriptor.

        Returns:
            Whether the state file, if there is one, was written; None if the supervisor did not
            answer in time.
        """
        saved: asyncio.Future[bool] = self._loop.create_future()
        self._saves.append(saved)
        self._send(b"K", memory)
        try:
            return await asyncio.wait_for(asyncio.shield(saved), _SAVE_S)
        except TimeoutError:
            return None

    def _send_heartbeat(self) -> None:
        if not self._queue:  # else the supervisor does not read: more messages do not help
            self._send(b"P")
        self._loop.call_later(_HEARTBEAT_S, self._send_heartbeat)

    def _send(self, message: bytes, memory: int | None = None) -> None:
        self._queue.append((message, memory))
        if len(self._queue) > _QUEUE_LIMIT:
            _log.error("the supervisor does not read its messages")
            self._close()
        self._flush()

    def _flush(self) -> None:
        while self._queue and not self._is_closed:
            message, memory = self._queue[0]
            try:
                socket.send_fds(self._socket, [message], [] if memory is None else [memory])
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError:
                self._close()
                return
            self._queue.popleft()
            if memory is not None:
                os.close(memory)
        if not self._is_closed:
            self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        try:
            message, descriptors, flags = receive_message(
                self._socket, _MESSAGE_BYTES, _DESCRIPTORS
            )
        except BlockingIOError:
            return
        except OSError:
            message, descriptors, flags = b"", [], 0
        if not message:
            self._close()
            return
        if message[:1] == b"k" and not descriptors:
            if self._saves:
                saved = self._saves.popleft()
                if not saved.done():
                    saved.set_result(message[1:] == b"\x00")
            return
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ValueError("the message is truncated")
            parsed = _ADAPTER.validate_json(message)
        except ValueError as error:
            for descriptor in descriptors:
                os.close(descriptor)
            _log.error("the supervisor sent an invalid message: %s", error)
            return
        self._on_message(parsed, descriptors)

    def _close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        for _message, memory in self._queue:
            if memory is not None:
                os.close(memory)
        self._queue.clear()
        self._on_close()
