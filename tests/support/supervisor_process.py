"""The real supervisor with fake children, as a program, and the handle that tests have of it.

`python -m tests.support.supervisor_process ARGUMENTS` supervises; `supervisor_process` starts it.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.deadline import wait_until
from tests.support.processes import is_running

from mcr.errors import McrError

CHILDREN = Path(__file__).with_name("fake_children.py")
WORKER = "worker 0"
SOON_S = 1.5  # for what happens at once, on a machine that is busy


@dataclass
class SupervisorProcess:
    """A running supervisor and the journal of its children."""

    directory: Path
    process: subprocess.Popen[str]
    path: Path

    def journal(self, what: str | None = None, who: str | None = None) -> list[dict[str, Any]]:
        """The entries so far; the last line may be incomplete."""
        path = self.directory / "journal"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        entries = [json.loads(line) for line in lines if line.endswith("\n")]
        return [
            entry
            for entry in entries
            if what in (None, entry["what"]) and who in (None, entry["who"])
        ]

    def messages(self, kind: str) -> list[dict[str, Any]]:
        """The messages of one kind that any control got, with the content of their memory."""
        return [
            {**entry["message"], "content": entry["content"]}
            for entry in self.journal("told")
            if entry["message"]["kind"] == kind
        ]

    def pid(self, who: str) -> int:
        """The process id of the last process of this kind."""
        if who == "control":
            return int(wait_until(lambda: self.journal(who=who))[-1]["pid"])
        return int(wait_until(lambda: self.journal("start", who))[-1]["pid"])

    def order(self, *words: str) -> None:
        """Have the fake control carry out an order."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(os.fspath(self.path))
            client.sendall(" ".join(words).encode() + b"\n")
            assert client.recv(100) in {b"done\n", b""}

    def said(self) -> str:
        """The content of standard error so far."""
        return (self.directory / "stderr").read_text()

    def until_ready(self) -> "SupervisorProcess":
        """Wait for the line `ready`."""
        wait_until(lambda: "ready: " in self.said(), 20)
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return self.process.wait(20)


@contextlib.contextmanager
def supervisor_process(
    directory: Path, stderr: int | None = None, **settings: object
) -> Iterator[SupervisorProcess]:
    """Start a supervisor; afterwards nothing of it is left."""
    directory.mkdir(exist_ok=True)
    told = {"socket": str(directory / "mcr.sock"), "directory": str(directory), **settings}
    with (directory / "stderr").open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.supervisor_process", json.dumps(told)],
            cwd=Path(__file__).parents[2],
            stderr=file if stderr is None else stderr,
            text=True,
        )
    made = SupervisorProcess(directory, process, Path(str(told["socket"])))
    try:
        yield made
    finally:
        # Children end with the supervisor, also with one that cannot say farewell.
        process.kill()
        process.wait(10)
        pids = {entry["pid"] for entry in made.journal()}
        wait_until(lambda: not any(map(is_running, pids)))


class FakeBroker:
    """Accepts all messages but one."""

    def __init__(self, directory: Path) -> None:
        self.deletions = os.eventfd(0, os.EFD_CLOEXEC)
        self._directory = directory

    def follow_deletions(self) -> None:
        """Fail: no test deletes an interface."""
        raise AssertionError("there is nothing to follow")

    def serve(self, worker: int, fd: int) -> bool:
        """Read a message, if there is one; return whether the worker's end is open."""
        with socket.socket(fileno=os.dup(fd)) as end:
            try:
                content = end.recv(100)
            except BlockingIOError:
                return True
            if content == b"bad":
                raise McrError("no such request")
            return bool(content)

    def leased(self) -> list[tuple[bytes, int]]:
        """The sockets for another supervisor: none."""
        return []

    def adopt(self, record: bytes, fd: int) -> None:
        """Fail: there are none."""
        raise AssertionError(f"there is nothing to adopt: {record!r}, {fd}")

    def forget(self) -> None:
        """Record the call."""
        (self._directory / "forgotten").touch()


def main() -> int:
    """Supervise the fake children."""
    # Here, since a test that only uses the handle need not load them.
    from mcr.daemon.supervisor import DaemonSettings, NativeTools, supervise  # noqa: PLC0415
    from mcr.daemon.supervisor.argv import ControlDescriptors, WorkerDescriptors  # noqa: PLC0415

    told = json.loads(sys.argv[1])
    _set_limits(told)
    directory = Path(told["directory"])
    common = {"journal": str(directory / "journal"), "supervisor": os.getpid()}

    def worker_command(
        settings: DaemonSettings, number: int, descriptors: WorkerDescriptors
    ) -> list[str]:
        numbers = {
            "supervisor_channel": descriptors.supervisor_channel,
            "broker": descriptors.broker,
            "page": descriptors.page,
        }
        own = {**common, **numbers, "number": number, "cpu": (settings.cpus or [None])[0]}
        return [sys.executable, "-I", str(CHILDREN), "worker", json.dumps(own)]

    def control_command(
        settings: DaemonSettings, gid: int, path: Path, descriptors: ControlDescriptors
    ) -> list[str]:
        numbers = {
            "supervisor_channel": descriptors.supervisor_channel,
            "listener": descriptors.listener,
            "gid": gid,
            "path": str(path),
        }
        own = {**common, **numbers, "mode": told.get("mode", "")}
        return [sys.executable, "-I", str(CHILDREN), "control", json.dumps(own)]

    tools = NativeTools(
        shrink=lambda any_file, _offload: (directory / f"shrunk-{any_file}").touch(),
        make_page=lambda: os.memfd_create("page", os.MFD_CLOEXEC),
        make_broker=lambda settings: FakeBroker(directory),
        worker_command=worker_command,
        control_command=control_command,
    )
    settings = DaemonSettings(
        socket=Path(told["socket"]),
        ingress="udp",
        workers=told.get("workers", 1),
        buffer_bytes=1 << 20,
        config=_path(told, "config"),
        state=_path(told, "state"),
    )
    try:
        return 0 if supervise(settings, tools) else 1
    except McrError as error:
        print(f"mcr: {error}", file=sys.stderr)
        return 1


def _set_limits(told: dict[str, Any]) -> None:
    """Replace time limits by shorter ones, so that tests need not wait."""
    from mcr.daemon.supervisor import managed_process, supervisor  # noqa: PLC0415

    for name in ("CONTROL_SILENCE_S", "WORKER_SILENCE_S") if "silence_s" in told else ():
        setattr(managed_process, name, told["silence_s"])
    if "drain_s" in told:
        supervisor._DRAIN_S = told["drain_s"]


def _path(told: dict[str, Any], name: str) -> Path | None:
    return Path(told[name]) if name in told else None


if __name__ == "__main__":
    sys.exit(main())
