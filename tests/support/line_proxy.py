"""A proxy between clients and a daemon, for what a real daemon never sends or does."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Script = Callable[[bytes, socket.socket], bool]


class LineProxy:
    """Listens at `path` from `start` to `stop`; passes lines on to the daemon, and answers back.

    `script` gets each line of a client and the client's connection. Returns it True, the daemon
    never sees the line.
    """

    def __init__(self, path: Path, daemon: Path) -> None:
        """Take the path to listen at, and that of the daemon."""
        self.path = path
        self.script: Script | None = None
        self.methods: list[str] = []
        """Each method that a client has called, in order."""
        self._daemon = daemon
        self._listener: tuple[socket.socket, threading.Thread] | None = None
        self._daemons: dict[socket.socket, socket.socket] = {}
        """The connection to the daemon, by that of the client."""
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Listen."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen(64)
        self._listener = listener, _run(self._accept, listener)

    def stop(self) -> None:
        """Remove the socket and end all connections, as a daemon that exits does."""
        if self._listener is not None:
            (listener, accepting), self._listener = self._listener, None
            self.path.unlink()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(10)
            listener.close()
        self.disconnect()
        while self._threads:
            self._threads.pop().join(10)

    def disconnect(self) -> None:
        """End all connections."""
        for each in (*self._daemons, *self._daemons.values()):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def send(self, *messages: object) -> None:
        """Send all clients these messages as JSON."""
        for client in list(self._daemons):
            send_message(client, *messages)

    def pass_on(self, line: bytes, client: socket.socket) -> None:
        """Send the daemon a client's line."""
        with suppress(KeyError, OSError):
            self._daemons[client].sendall(line)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            daemon = socket.socket(socket.AF_UNIX)
            daemon.connect(str(self._daemon))
            self._daemons[client] = daemon
            self._threads.append(_run(self._requests, client, daemon))
            self._threads.append(_run(self._answers, client, daemon))

    def _requests(self, client: socket.socket, daemon: socket.socket) -> None:
        with suppress(OSError), client, client.makefile("rb") as lines:
            for line in lines:
                with suppress(ValueError, TypeError, KeyError):
                    self.methods.append(json.loads(line)["method"])
                if self.script is None or not self.script(line, client):
                    self.pass_on(line, client)
        del self._daemons[client]
        with suppress(OSError):
            daemon.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _answers(client: socket.socket, daemon: socket.socket) -> None:
        with suppress(OSError), daemon:
            while data := daemon.recv(1 << 16):
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def _run(work: Callable[..., None], *arguments: socket.socket) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


@contextmanager
def line_proxy(path: Path, daemon: Path) -> Iterator[LineProxy]:
    """Run a proxy during the block."""
    proxy = LineProxy(path, daemon)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def send_message(connection: socket.socket, *messages: object) -> None:
    """Send messages as lines of JSON, if the peer reads them."""
    with suppress(OSError):
        connection.sendall(b"".join(json.dumps(each).encode() + b"\n" for each in messages))


def answering(result: Callable[[str], Any]) -> Script:
    """A script that answers in place of the daemon: `result` of a method, unless it is None."""

    def script(line: bytes, client: socket.socket) -> bool:
        asked = json.loads(line)
        found = result(asked["method"])
        if found is not None:
            send_message(client, {"jsonrpc": "2.0", "id": asked["id"], "result": found})
        return found is not None

    return script
