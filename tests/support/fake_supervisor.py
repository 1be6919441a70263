"""A supervisor with fake workers, for a real control process."""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.deadline import PATIENCE_S, wait_until
from tests.support.fake_worker import FakeWorker
from tests.support.page_writer import PageWriter

from mcr import _native


class FakeSupervisor:
    """Starts control as the real supervisor does, with fake workers."""

    def __init__(
        self,
        directory: Path,
        *,
        workers: int = 1,
        state: bytes | None = None,
        enter: Sequence[str] = (),
        user: int | None = None,
        name: str | None = None,
    ) -> None:
        self.path = directory / (name or f"s{os.urandom(4).hex()}")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(1024)
        self.workers: dict[int, FakeWorker] = {}
        self.count = workers
        self.enter, self.user = enter, user
        self.kept = state
        self.in_use = False
        self.state_fails = False
        self.keeps = 0
        self.config: bytes | None = None
        self.keep_going = False
        self.log_level = "info"
        self.restarts: list[int] = []
        self.heartbeats = 0
        self.ready = threading.Event()
        self.shutdown_asked = threading.Event()
        self.drained = threading.Event()
        self.rules: int | None = None
        self.numbers = os.memfd_create("numbers")
        self._page_descriptors = [_native.make_page() for _ in range(workers)]
        self.pages = [PageWriter(page) for page in self._page_descriptors]
        self.incarnations = 0
        self._notes = 0
        self.revives = True
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in `close`
        self._closing = False

    def start(self, *, within_s: float = PATIENCE_S) -> None:
        """Start control and all workers, and wait until control is ready."""
        self.launch()
        for number in range(self.count):
            self.add_worker(number)
        if self.config is not None:
            self.configure(self.config)
        self.say({"kind": "begin"})
        wait_until(
            lambda: self.ready.is_set() or self.process.poll() is not None, within_s, what="ready"
        )

    def launch(self) -> None:
        """Start control, which gets the kept rules."""
        self.ready.clear()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = {
            "supervisor": os.getpid(),
            "supervisor_channel": theirs.fileno(),
            "listener": self.listener.fileno(),
            "numbers": self.numbers,
            "pages": self._page_descriptors,
            "socket": str(self.path),
            "uid": self.user,
            "gid": self.user,
            "starter_uid": os.getuid(),
            "socket_gid": os.getgid(),
            "workers": self.count,
            "ingress": "udp",
            "hosts": "first",
            "config": None if self.config is None else "mcr.toml",
            "keep_going": self.keep_going,
            "log_level": self.log_level,
        }
        self.process = subprocess.Popen(
            [*self.enter, sys.executable, "-I", "-m", "mcr.daemon.control", json.dumps(arguments)],
            pass_fds=[
                theirs.fileno(),
                self.listener.fileno(),
                self.numbers,
                *self._page_descriptors,
            ],
            stderr=self.errors,
        )
        theirs.close()
        self.supervisor_channel = ours
        self._hearing = threading.Thread(target=self._listen, args=(ours,), daemon=True)
        self._hearing.start()
        self.say({"kind": "restore", "in_use": self.in_use}, self.kept)

    def add_worker(self, number: int) -> FakeWorker:
        """Add a worker that continues where the one before it stopped."""
        self.incarnations += 1
        before = self.workers.get(number)
        worker = FakeWorker(
            number, pid=1000 + self.incarnations, before=before, page=self.pages[number]
        )
        self.workers[number] = worker
        self.introduce(worker)
        return worker

    def introduce(self, worker: FakeWorker) -> None:
        """Send control the channel to a worker."""
        word = {"kind": "worker", "number": worker.number, "pid": worker.pid, "cpu": None}
        word["incarnation"] = worker.pid - 1000
        descriptor = worker.hand_over()
        socket.send_fds(self.supervisor_channel, [json.dumps(word).encode()], [descriptor])
        os.close(descriptor)

    def kill_worker(self, number: int, *, revive: bool = True, missed_frames: int = 0) -> None:
        """Kill a worker, report it, and start its successor, which missed this many frames."""
        worker = self.workers[number]
        worker.die()
        worker.kernel_dropped_frames += missed_frames
        self.say(
            {
                "kind": "worker_ended",
                "number": number,
                "pid": worker.pid,
                "incarnation": worker.pid - 1000,
                "cause": "killed by SIGKILL",
                "at": time.time(),
                "monotonic_s": time.monotonic(),
                "restart_in_ms": 0,
                "deaths": 1,
            }
        )
        if revive:
            self.add_worker(number)

    def kill_control(self) -> None:
        """Kill control by SIGKILL."""
        self.process.kill()
        self.process.wait()
        self._hearing.join(PATIENCE_S)
        self.supervisor_channel.close()

    def restart_control(self) -> None:
        """Kill control, and start its successor, with new channels to the same workers."""
        self.kill_control()
        self.launch()
        for number, old in list(self.workers.items()):
            again = FakeWorker(number, pid=old.pid, before=old, page=self.pages[number])
            again.revision, again.rules = old.revision, old.rules
            self.workers[number] = again
            self.introduce(again)
        self.say({"kind": "begin"})
        wait_until(self.ready.is_set, what="ready again")

    def say(self, word: dict[str, Any], content: bytes | None = None) -> None:
        """Send a message, with a memfd of these bytes."""
        descriptors = []
        if content is not None:
            descriptors.append(os.memfd_create("test"))
            os.write(descriptors[0], content)
        with contextlib.suppress(OSError):
            socket.send_fds(self.supervisor_channel, [json.dumps(word).encode()], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)

    def configure(self, content: bytes, include: Sequence[str] = ()) -> None:
        """Send a configuration of one file; the same again when control requests it."""
        self.config = content
        pack = b"mcr.toml\n%d\n%s" % (len(content), content)
        self.say({"kind": "config", "include": include}, pack)

    def note(self) -> str:
        """Make control log a warning, which is an event too; return its unique text."""
        self._notes += 1
        text = f"note {self._notes}"
        self.say({"kind": "note", "level": "warning", "facility": "supervisor", "text": text})
        return text

    def said(self) -> str:
        """What control has written to standard error."""
        self.errors.seek(0)
        return self.errors.read().decode()

    def close(self) -> None:
        """End all processes."""
        self._closing = True
        self.process.kill()
        self.process.wait()
        for worker in self.workers.values():
            worker.die()
        with contextlib.suppress(OSError):
            self.supervisor_channel.shutdown(socket.SHUT_RDWR)
        self._hearing.join(PATIENCE_S)
        self.supervisor_channel.close()
        self.listener.close()
        self.errors.close()
        os.close(self.numbers)
        for writer, page in zip(self.pages, self._page_descriptors, strict=True):
            writer.close()
            os.close(page)
        self.path.unlink(missing_ok=True)

    def _listen(self, supervisor_channel: socket.socket) -> None:
        try:
            while True:
                select.select([supervisor_channel], [], [])
                message, descriptors, _, _ = socket.recv_fds(supervisor_channel, 4096, 4)
                if not message:
                    return
                self._hear(supervisor_channel, message, descriptors)
        except (OSError, ValueError):
            return

    def _hear(
        self, supervisor_channel: socket.socket, message: bytes, descriptors: list[int]
    ) -> None:
        kind = message[:1]
        if kind == b"P":
            self.heartbeats += 1
        elif kind == b"Y":
            self.rules = int.from_bytes(message[1:], "little")
            self.ready.set()
        elif kind == b"K":
            with os.fdopen(descriptors[0], "rb") as file:
                file.seek(0)
                self.kept, self.in_use = file.read(), True
            self.keeps += 1
            supervisor_channel.send(b"k\x01" if self.state_fails else b"k\x00")
        elif kind == b"L":
            with os.fdopen(descriptors[0], "rb") as file:
                file.seek(0)
                self.configure(self.config or b"", file.read().decode().splitlines())
        elif kind == b"R":
            number = int.from_bytes(message[1:3], "little")
            self.restarts.append(number)
            if not self._closing:
                self.kill_worker(number, revive=self.revives)
        elif kind == b"S":
            self.shutdown_asked.set()
        elif kind == b"D":
            self.drained.set()


@contextlib.contextmanager
def control_process(
    directory: Path,
    *,
    workers: int = 1,
    state: bytes | None = None,
    config: bytes | None = None,
    enter: Sequence[str] = (),
    user: int | None = None,
    name: str | None = None,
    log_level: str = "info",
) -> Iterator[FakeSupervisor]:
    """A control process that serves; `enter` begins the command that starts it.

    Its socket has this name in the directory, or one that nothing else has.
    """
    supervisor = FakeSupervisor(
        directory, workers=workers, state=state, enter=enter, user=user, name=name
    )
    supervisor.config = config
    supervisor.log_level = log_level
    supervisor.start()
    try:
        assert supervisor.process.poll() is None, supervisor.said()
        yield supervisor
    finally:
        supervisor.close()
