"""Daemons of the product, run as `mcr serve`, in a namespace or on this host's loopback."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from tests.support.own_command import mcr_here
from tests.support.processes import is_running

import mcr
from mcr.daemon.settings import DaemonSettings
from mcr.daemon.supervisor.argv import supervisor_command

from .checks import DEADLINE_S, PROCESS_S
from .namespaces import Namespace
from .relays import put_threads_first

MCR = str(Path(sys.executable).parent / "mcr")


@dataclass
class Daemon:
    """A running daemon: its supervisor, its socket and its output."""

    process: subprocess.Popen[bytes]
    socket: Path
    log: str = ""
    _clients: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def supervisor(self) -> int:
        """The supervisor's process id."""
        return self.process.pid

    @property
    def control(self) -> int:
        """The process id of the current control."""
        with self.client() as client:
            return client.hello().pid

    @property
    def workers(self) -> list[int]:
        """The process ids of the running workers, by number."""
        with self.client() as client:
            return [worker.pid for worker in client.workers() if worker.pid is not None]

    @property
    def processes(self) -> list[int]:
        """The process ids of supervisor, control and workers."""
        return [self.supervisor, self.control, *self.workers]

    def client(self) -> mcr.Client:
        """A new connection."""
        return mcr.Client(self.socket)

    def wait_for(self, text: str, within_s: float = DEADLINE_S) -> None:
        """Wait until standard error contains this text."""
        deadline = time.monotonic() + within_s
        while text not in self.read_log(max(0.0, min(0.2, deadline - time.monotonic()))):
            assert time.monotonic() < deadline, f"no {text!r}: {self.log}"
            assert self.process.poll() is None, f"ended before {text!r}: {self.log}"

    def read_log(self, wait_s: float = 0) -> str:
        """The content of standard error so far."""
        assert self.process.stderr is not None
        descriptor = self.process.stderr.fileno()
        while select.select([descriptor], [], [], wait_s)[0]:
            text = os.read(descriptor, 65536)
            if not text:
                break
            self.log += text.decode()
            wait_s = 0
        return self.log

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Request the shutdown, wait for the exit, and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(PROCESS_S)
        self.read_log()
        return code


@contextlib.contextmanager
def serving(
    namespace: Namespace | None,
    *arguments: str,
    socket: Path | None = None,
    before: Sequence[str] = (),
    names_socket: bool = True,
    awaits_ready: bool = True,
) -> Iterator[Daemon]:
    """Run a daemon that is ready; whatever the test did to it, nothing of it stays.

    Without a namespace it runs here, and its rules may name nothing but the loopback interface.

    The command begins with what is given as `before`, to start it with other rights. A daemon
    whose socket is not named to it should choose the one given. Without `awaits_ready` the test
    itself waits until the daemon is ready.
    """
    with tempfile.TemporaryDirectory(prefix="mcrd") as directory:
        # The daemon's user must be able to reach its socket.
        Path(directory).chmod(0o755)
        path = socket or Path(directory, "run", "mcr.sock")
        named = ["--socket", str(path)] if names_socket else []
        supervisor = None if before or not awaits_ready else _supervisor(*named, *arguments)
        command = supervisor or [*before, MCR, "serve", *named, *arguments]
        process = subprocess.Popen(
            command if namespace is None else namespace.command(*command),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        daemon = Daemon(process, path)
        try:
            if awaits_ready:
                daemon.wait_for("ready", PROCESS_S)
            yield daemon
        except BaseException as error:
            error.add_note(f"the daemon said: {daemon.read_log()}")
            raise
        finally:
            _clear_away(process)


def _supervisor(*arguments: str) -> list[str] | None:
    """The command that `mcr serve` becomes; None if it would print something, or fail.

    It is found in this process, which has loaded the command line already: that takes a fourth of
    the processor time of a start.
    """
    chosen: list[DaemonSettings] = []
    with mock.patch("mcr.cli.serve.become_supervisor", chosen.append):
        said = mcr_here("serve", *arguments)
    return supervisor_command(chosen[0]) if said == (0, "", "") else None


def memory_kib(pid: int) -> int:
    """The resident memory of a process, in KiB (VmRSS)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("\nVmRSS:")[1].split()[0])


def proportional_kib(pid: int) -> int:
    """The memory of a process in KiB, where it shares pages its part of them (PSS)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.split("\nPss:")[1].split()[0])


def cpu_s(pid: int) -> float:
    """The processor time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> int:
    """The number of open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def sockets(daemon: Daemon) -> list[int]:
    """The number of open descriptors of the processes that hold relay sockets.

    While the supervisor answers a worker, it has a duplicate of that channel: the smallest of a few
    counts is without.
    """

    def count() -> list[int]:
        time.sleep(0.004)
        return [descriptors(pid) for pid in (daemon.supervisor, *daemon.workers)]

    return [min(counts) for counts in zip(*(count() for _ in range(4)), strict=True)]


def put_first(daemon: Daemon) -> None:
    """Give the workers priority over other work on this machine, as far as permitted."""
    for pid in daemon.workers:
        put_threads_first(pid)


def children(pid: int) -> list[int]:
    """The running child processes of a process."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _clear_away(process: subprocess.Popen[bytes]) -> None:
    """End a daemon by SIGTERM, then by SIGKILL."""
    left = [process.pid, *children(process.pid)]
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in left:
        if is_running(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if process.stderr is not None:
        process.stderr.close()
