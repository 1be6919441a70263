"""The server for clients: accepts connections, answers lines in turn, and enforces limits.

Owns the connections. `jsonrpc` parses and answers lines.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

from ....log_levels import NUMBERS, logger_of
from ....protocol.constants import LINE_BYTES, ErrorCode
from ....protocol.jsonl import LineTooLong
from .. import limits
from ..events import Subscription
from .access import AccessPolicy, Peer, peer_of
from .errors import RpcError
from .jsonrpc import Pieces, error_line
from .stream import Budget, LineStream

_ACCEPTS_PER_EVENT = 16
_LINGERING_REFUSALS = 64  # refused clients that get time to read the error
_CHECK_INTERVAL_S = 1.0

_log = logger_of("control")
_security = logger_of("security")


class Connection:
    """One client."""

    def __init__(self, lines: LineStream, peer: Peer) -> None:
        """Create the record of a connection."""
        self.lines = lines
        self.peer = peer
        self.subscription: Subscription | None = None
        self.ends_after_answer = False
        """Set by a request after whose answer the connection is closed."""
        self.on_end: Callable[[], None] | None = None
        """Called once, when the connection has ended; such a connection is not idle."""
        self.is_busy = False
        self.active_s = time.monotonic()
        """The time of the last request (`time.monotonic`)."""

    @property
    def is_idle(self) -> bool:
        """Whether there is no request in progress, no subscription and no tap."""
        return not self.is_busy and self.subscription is None and self.on_end is None

    def end(self) -> None:
        """End what belongs to the connection."""
        self.subscribe(None)
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end()

    def subscribe(self, subscription: Subscription | None) -> None:
        """Replace the subscription; its events follow the answer in progress."""
        if self.subscription is not None:
            self.subscription.end()
        self.subscription = subscription
        self.lines.on_room = None if subscription is None else subscription.pump


LineHandler = Callable[[bytes, Connection], Awaitable[Pieces | None]]


class Server:
    """Serves all clients of one listening socket."""

    def __init__(self, listener: socket.socket, policy: AccessPolicy, answer: LineHandler) -> None:
        """Take ownership of the listener; accept no client before `start`.

        Args:
            listener: a listening Unix socket.
            policy: decides which users may connect.
            answer: answers a line of a connection; returns None if there is no answer.
        """
        self._listener = listener
        self._listener.setblocking(False)
        self._policy = policy
        self._answer = answer
        self._open: dict[LineStream, Connection] = {}
        self._refused: set[LineStream] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._incoming = Budget(limits.INPUT_BYTES)
        self._outgoing = Budget(limits.OUTPUT_BYTES)
        self._loop = asyncio.get_running_loop()
        self._check: asyncio.TimerHandle | None = None
        self._is_paused = False

    def __len__(self) -> int:
        """The number of open connections."""
        return len(self._open)

    def start(self) -> None:
        """Start to accept clients."""
        self._loop.add_reader(self._listener, self._accept)
        self._check_overdue()

    def pause(self) -> None:
        """Leave clients that connect in the queue of the listener."""
        self._is_paused = True
        self._loop.remove_reader(self._listener)

    def resume(self) -> None:
        """Accept clients again after `pause`."""
        if self._is_paused:
            self._is_paused = False
            self._loop.add_reader(self._listener, self._accept)

    def stop_accepting(self) -> None:
        """Accept no more clients; connected ones are still served."""
        self._loop.remove_reader(self._listener)
        self._listener.close()

    async def close(self, within_s: float) -> None:
        """Close all connections after the answers in progress, at the latest after `within_s`."""
        if self._check is not None:
            self._check.cancel()
        busy = [task for task in self._serving if not task.done()]
        for connection in self._open.values():
            connection.ends_after_answer = True
            if not connection.is_busy:
                connection.lines.close(linger=False)
        if busy:
            await asyncio.wait(busy, timeout=within_s)
        for lines in list(self._open):
            lines.abort()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_EVENT):
            try:
                accepted, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:  # no descriptors left: clients stay in the backlog
                _log.warning("no connection can be accepted: %s", error.strerror)
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_CHECK_INTERVAL_S, self._accept_again)
                return
            accepted.setblocking(False)
            task = self._loop.create_task(self._serve(accepted))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    def _accept_again(self) -> None:
        if self._listener.fileno() >= 0 and not self._is_paused:
            self._loop.add_reader(self._listener, self._accept)

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            peer = peer_of(accepted)
        except OSError:
            accepted.close()
            return
        lines = LineStream(self._incoming, self._outgoing, self._forget)
        await self._loop.connect_accepted_socket(lambda: lines, accepted)
        refusal = self._refusal(peer)
        if refusal is not None:
            is_intrusion = refusal.code == ErrorCode.RIGHTS
            _security.log(
                NUMBERS["notice" if is_intrusion else "debug"],
                "process %d of user %d refused: %s",
                *(peer.pid, peer.uid, refusal.message),
                extra={"key": f"refused {peer.uid}"},  # not a line for each process of a user
            )
            if not lines.is_closed:
                self._refused.add(lines)
            lines.send(error_line(refusal))
            lines.close(linger=len(self._refused) <= _LINGERING_REFUSALS)
            return
        connection = Connection(lines, peer)
        if not lines.is_closed:
            self._open[lines] = connection
            await self._serve_lines(connection)

    def _refusal(self, peer: Peer) -> RpcError | None:
        if not self._policy.allows(peer):
            message = (
                f"user {peer.uid} may not use this daemon; join the socket's group"
                f" (gid {self._policy.socket_gid}), or be root"
            )
            return RpcError(ErrorCode.RIGHTS, message)
        if len(self._open) < limits.CONNECTIONS or self._make_room():
            return None
        message = f"all {limits.CONNECTIONS} connections are in use; close one"
        return RpcError(ErrorCode.LIMIT, message)

    def _make_room(self) -> bool:
        idle = [each for each in self._open.values() if each.is_idle]
        if not idle:
            return False
        longest_idle = min(idle, key=lambda each: each.active_s)
        _log.debug("process %d made room for another client", longest_idle.peer.pid)
        longest_idle.lines.abort()
        self._forget(longest_idle.lines)
        return True

    async def _serve_lines(self, connection: Connection) -> None:
        """Serve lines one by one, and other clients in between."""
        lines = connection.lines
        try:
            while (line := await lines.next()) is not None:
                connection.active_s = time.monotonic()
                if line:
                    await self._serve_line(line, connection)
                if connection.ends_after_answer:
                    break
                await asyncio.sleep(0)
        except LineTooLong:
            message = f"a line is longer than {LINE_BYTES} bytes"
            lines.send(error_line(RpcError(ErrorCode.LIMIT, message)))
        lines.close()

    async def _serve_line(self, line: bytes, connection: Connection) -> None:
        connection.is_busy = True
        try:
            pieces = await self._answer(line, connection)
        finally:
            connection.is_busy = False
        if pieces is not None:
            connection.lines.send(pieces)
        if connection.subscription is not None:
            connection.subscription.pump()

    def _forget(self, lines: LineStream) -> None:
        self._refused.discard(lines)
        connection = self._open.pop(lines, None)
        if connection is not None:
            connection.end()

    def _check_overdue(self) -> None:
        """Close connections that exceed a time limit; repeat in a second."""
        now_s = time.monotonic()
        for lines, connection in list(self._open.items()):
            reason = lines.overdue(now_s)
            if reason is not None:
                _log.debug("process %d was disconnected: %s", connection.peer.pid, reason)
                lines.abort()
        self._check = self._loop.call_later(_CHECK_INTERVAL_S, self._check_overdue)
