"""A client of the daemon's socket that can send any bytes."""

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

from tests.support.deadline import PATIENCE_S


class RawClient:
    """One connection to the daemon's socket."""

    def __init__(self, path: Path, within_s: float = PATIENCE_S) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(within_s)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self._rest = b""
        self._asked = 0

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def line(self) -> Any:  # noqa: ANN401 -- whatever the daemon says
        """Return the next line, parsed as JSON."""
        while b"\n" not in self._rest:
            data = self.socket.recv(1 << 20)
            if not data:
                raise EOFError(self._rest)
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def send(self, data: bytes) -> None:
        """Send any bytes."""
        self.socket.sendall(data)

    def ask(self, method: str, **params: object) -> dict[str, Any]:
        """Return the whole answer to a request; skip events before it."""
        self._asked += 1
        request = {"jsonrpc": "2.0", "id": self._asked, "method": method, "params": params}
        self.send(json.dumps(request).encode() + b"\n")
        while "method" in (answer := self.line()):
            pass
        assert answer["id"] == self._asked
        return dict(answer)

    def call(self, method: str, **params: object) -> Any:  # noqa: ANN401 -- whatever the daemon says
        """Return the result of a request."""
        answer = self.ask(method, **params)
        assert "result" in answer, answer
        return answer["result"]

    def error(self, method: str, **params: object) -> dict[str, Any]:
        """Return the error of a request."""
        answer = self.ask(method, **params)
        assert "error" in answer, answer
        return dict(answer["error"])

    def is_closed(self) -> bool:
        """Whether the daemon has closed the connection, once all its output is read."""
        with contextlib.suppress(OSError):
            while self.socket.recv(1 << 20):
                pass
        return True
