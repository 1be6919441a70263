"""The clients' connections: who is let in, whose turn it is, and who must go.

Owns their number and their life. What a line means is the business of `jsonrpc`.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable

from ....protocol.constants import LINE_BYTES, ErrorCode
from ....protocol.jsonl import LineTooLong
from .. import limits
from ..events import Subscription
from .access import AccessPolicy, Peer, peer_of
from .errors import RpcError
from .jsonrpc import Pieces, refuse
from .stream import Budget, LineStream

_ACCEPT_AT_ONCE = 16
_REFUSED_AT_ONCE = 64  # that are given time to see why
_LOOK_EVERY_S = 1.0

_log = logging.getLogger("mcr.clients")


class Connection:
    """One client."""

    def __init__(self, lines: LineStream, peer: Peer) -> None:
        """Take its stream, and who it is."""
        self.lines = lines
        self.peer = peer
        self.subscription: Subscription | None = None
        self.ends_after_answer = False
        """Set by a request whose answer shall be the last."""
        self.is_busy = False
        self.active_s = time.monotonic()

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be missed if it were closed."""
        return not self.is_busy and self.subscription is None

    def subscribe(self, subscription: Subscription | None) -> None:
        """Replace the subscription; events begin to flow behind the answer in progress."""
        if self.subscription is not None:
            self.subscription.end()
        self.subscription = subscription
        self.lines.on_room = None if subscription is None else subscription.pump


LineHandler = Callable[[bytes, Connection], Awaitable[Pieces | None]]


class Server:
    """All of them."""

    def __init__(self, listener: socket.socket, gate: AccessPolicy, answer: LineHandler) -> None:
        """Take a listening socket, who is let in, and what answers a line."""
        self._listener = listener
        self._listener.setblocking(False)
        self._gate = gate
        self._answer = answer
        self._open: dict[LineStream, Connection] = {}
        self._refused: set[LineStream] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._incoming = Budget(limits.INPUT_BYTES)
        self._outgoing = Budget(limits.OUTPUT_BYTES)
        self._loop = asyncio.get_running_loop()
        self._look: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def start(self) -> None:
        """Let clients in from now on."""
        self._loop.add_reader(self._listener, self._accept)
        self._look_after()

    def stop_accepting(self) -> None:
        """Let nobody in any more; those that are in are still served."""
        self._loop.remove_reader(self._listener)
        self._listener.close()

    async def close(self, within_s: float) -> None:
        """Close all, once what is being served is answered, or the time is over."""
        if self._look is not None:
            self._look.cancel()
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
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                accepted, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:  # no descriptors: whoever waits goes on waiting
                _log.warning("no connection can be accepted: %s", error.strerror)
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_LOOK_EVERY_S, self._accept_again)
                return
            accepted.setblocking(False)
            task = self._loop.create_task(self._serve(accepted))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    def _accept_again(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            peer = peer_of(accepted)
        except OSError:
            accepted.close()
            return
        lines = LineStream(self._incoming, self._outgoing, self._forget)
        await self._loop.connect_accepted_socket(lambda: lines, accepted)
        refusal = self._unwanted(peer)
        if refusal is not None:
            _log.debug("process %d of user %d refused: %s", peer.pid, peer.uid, refusal.message)
            if not lines.is_over:
                self._refused.add(lines)
            lines.send(refuse(refusal))
            lines.close(linger=len(self._refused) <= _REFUSED_AT_ONCE)
            return
        connection = Connection(lines, peer)
        if not lines.is_over:
            self._open[lines] = connection
            await self._converse(connection)

    def _unwanted(self, peer: Peer) -> RpcError | None:
        if not self._gate.allows(peer):
            message = (
                f"user {peer.uid} may not use this daemon; join the socket's group"
                f" (gid {self._gate.socket_gid}), or be root"
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
        oldest = min(idle, key=lambda each: each.active_s)
        _log.debug("process %d made room for another client", oldest.peer.pid)
        oldest.lines.abort()
        self._forget(oldest.lines)
        return True

    async def _converse(self, connection: Connection) -> None:
        """Serve one line after the other, and let others come between."""
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
            lines.send(refuse(RpcError(ErrorCode.LIMIT, message)))
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
            connection.subscribe(None)

    def _look_after(self) -> None:
        """Cut off those that are overdue; again in a second."""
        now_s = time.monotonic()
        for lines, connection in list(self._open.items()):
            why = lines.overdue(now_s)
            if why is not None:
                _log.debug("process %d was cut off: %s", connection.peer.pid, why)
                lines.abort()
        self._look = self._loop.call_later(_LOOK_EVERY_S, self._look_after)
