"""A worker that relays nothing: it serves the channel to control, and fails on request."""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, ClassVar

from tests.support.edited_specs import edited
from tests.support.page_writer import PageWriter

from mcr._native import output_keys


class FakeWorker:
    """Our end of one channel, served by a thread.

    `script` maps a request to what happens instead of the right answer: "refuse", "hang", "die",
    "garbage", or a function that gets the request and returns the answer's members.
    """

    made: ClassVar[list["FakeWorker"]] = []

    def __init__(
        self,
        number: int = 0,
        *,
        pid: int = 100,
        before: "FakeWorker | None" = None,
        page: PageWriter | None = None,
    ) -> None:
        self.made.append(self)
        self.ours, self.theirs = socket.socketpair()
        self.number, self.pid = number, pid
        self.revision = 0
        self.rules: dict[str, dict[str, Any]] = {}
        self.script: dict[str, str | Callable[[dict[str, Any]], dict[str, Any]]] = {}
        self.asked: list[str] = []
        self.log_levels: dict[str, str] = {}
        self.page = page
        if page is not None:
            page.take_over()
        self._page_turn = threading.Lock()
        self._counts: dict[str, int] = dict(before.counts) if before else {}
        self._losses: dict[str, int] = dict(before.losses) if before else {}
        self._kernel_dropped_frames: int = before.kernel_dropped_frames if before else 0
        self._prepared: tuple[int, dict[str, dict[str, Any]]] | None = None
        self._write = threading.Lock()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @property
    def counts(self) -> dict[str, int]:
        """How many datagrams each rule has relayed, by id; to be replaced as a whole."""
        return self._counts

    @counts.setter
    def counts(self, counts: dict[str, int]) -> None:
        self._counts = counts
        self._write_page()

    @property
    def losses(self) -> dict[str, int]:
        """How many copies each output of a rule has lost, as `output_full`; replaced as a whole."""
        return self._losses

    @losses.setter
    def losses(self, losses: dict[str, int]) -> None:
        self._losses = losses
        self._write_page()

    @property
    def kernel_dropped_frames(self) -> int:
        """How many frames the kernel has lost."""
        return self._kernel_dropped_frames

    @kernel_dropped_frames.setter
    def kernel_dropped_frames(self, frames: int) -> None:
        self._kernel_dropped_frames = frames
        self._write_page()

    def hand_over(self) -> int:
        """The descriptor of the other end, which the caller owns then."""
        return self.theirs.detach()

    def die(self) -> None:
        """Close the channel, as a killed process does."""
        with contextlib.suppress(OSError):
            self.ours.shutdown(socket.SHUT_RDWR)
        self.ours.close()

    @classmethod
    def end_all(cls) -> None:
        """End all workers of this test, and wait until their threads have ended."""
        while cls.made:
            worker = cls.made.pop()
            worker.die()
            worker.theirs.close()
            worker.thread.join(10)
            assert not worker.thread.is_alive()

    def push(self, **event: object) -> None:
        """Send an event."""
        self._send(event)

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        with self._write, contextlib.suppress(OSError):
            self.ours.sendall(len(body).to_bytes(4, "little") + body)

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.ours.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def _run(self) -> None:
        try:
            while True:
                length = int.from_bytes(self._receive(4), "little")
                self._serve(json.loads(self._receive(length)))
        except (OSError, EOFError):
            self.ours.close()

    def _serve(self, request: dict[str, Any]) -> None:
        what = request["do"]
        self.asked.append(what)
        script = self.script.get(what)
        if callable(script):
            self._send({"id": request["id"], **script(request)})
        elif script == "die":
            self.die()
        elif script == "hang":
            pass
        elif script == "garbage":
            self.ours.sendall(os.urandom(8))
        elif script == "refuse":
            error = {"kind": "rights", "rule": None, "message": "CAP_NET_RAW is missing"}
            error["capability"] = "CAP_NET_RAW"
            self._send({"id": request["id"], "error": error})
        else:
            self._send({"id": request["id"], "ok": getattr(self, f"_{what}")(request)})

    def _hello(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {
            "protocol": 4,
            "number": self.number,
            "pid": self.pid,
            "ingress": "udp",
            "engine": "io_uring",
            "revision": self.revision,
            "rules": list(self.rules),
        }

    def _prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        rules = {} if request["whole"] else dict(self.rules)
        for rule_id in request["remove"]:
            del rules[rule_id]
        rules.update({rule["id"]: rule for rule in request["add"]})
        for edit in request.get("edit", []):
            rules[edit["id"]] = edited(rules, edit)
        self._prepared = (request["revision"], rules)
        return {}

    def _commit(self, _request: dict[str, Any]) -> dict[str, Any]:
        assert self._prepared is not None
        (self.revision, self.rules), self._prepared = self._prepared, None
        self._write_page()
        return {"revision": self.revision}

    def _abort(self, _request: dict[str, Any]) -> dict[str, Any]:
        self._prepared = None
        return {}

    def _stop(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _log(self, request: dict[str, Any]) -> dict[str, Any]:
        self.log_levels = request["levels"]
        return {}

    def _tap(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _untap(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _write_page(self) -> None:
        if self.page is None:
            return
        with self._page_turn:
            rules = [(rule["id"], _keys(rule)) for rule in self.rules.values()]
            self.page.write(rules, self._counts, self._losses, self._kernel_dropped_frames)


_KNOWN: dict[int, tuple[dict[str, Any], tuple[bytes, ...]]] = {}


def _keys(rule: dict[str, Any]) -> tuple[bytes, ...]:
    """Those of a rule's outputs. Kept for each specification: those of many rules take long."""
    known = _KNOWN.get(id(rule))
    if known is None or known[0] is not rule:
        keys = output_keys(json.dumps(rule).encode())
        known = rule, tuple(keys[at : at + 8] for at in range(0, len(keys), 8))
        _KNOWN[id(rule)] = known
    return known[1]
