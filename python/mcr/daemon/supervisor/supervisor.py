"""The supervisor's life: from the first child to the last, and what signals mean meanwhile.

Owns the turn and the end of the daemon. What children are and do is the business of `processes`.
"""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType

from ..settings import DaemonSettings
from .config_source import ConfigSource
from .disk_thread import DiskThread
from .errors import StartError
from .listener import Listener
from .log import StderrLog, sd_notify
from .native import NativeTools
from .processes import ProcessManager
from .reactor import Reactor
from .snapshot_store import SnapshotStore
from .watchdog import AwakeClock

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TICK_S = 0.25  # how late hanging children are noticed at most
_DRAIN_S = 10.0  # how long control may take to stop the engines and to report
_LEAVE_S = 1.0  # how long children may take to end by themselves; then they are killed
_REAP_S = 2.0  # how long the kernel may take to end what was killed


class Supervisor:
    """The loop and its phases: it runs, then control drains, then the children leave."""

    def __init__(
        self,
        setup: DaemonSettings,
        tools: NativeTools,
        listener: Listener,
        socket_gid: int,
        log: StderrLog,
    ) -> None:
        """Read the files and make what outlives the children.

        Raises:
            StartError: a file cannot be read.
        """
        self._setup = setup
        self._log = log
        self._reactor = Reactor()
        self._clock = AwakeClock(time.monotonic())
        self._disk = DiskThread()
        self._reactor.watch(self._disk.descriptor, self._disk.finish)
        keeper, self._configuration = _read_files(setup, self._disk)
        self._processes = ProcessManager(
            setup=setup,
            tools=tools,
            reactor=self._reactor,
            clock=self._clock,
            log=log,
            keeper=keeper,
            configuration=self._configuration,
            listener=listener,
            socket_gid=socket_gid,
            lifecycle=self,
        )
        self._failure: str | None = None
        self._drained = False
        self._drain_until_s: float | None = None
        self._leave_until_s: float | None = None
        self._killed_at_s: float | None = None

    def run(self) -> bool:
        """Run until a signal or a client ends the daemon; return whether it ended in order.

        Raises:
            StartError: a child died again and again before the daemon was ready.
        """
        with ExitStack() as stack:
            stack.callback(self._disk.close)
            stack.callback(self._reactor.close)
            stack.callback(self._processes.close)
            stack.callback(self._processes.kill_all)
            stack.enter_context(self._signals())
            while not self._over():
                self._turn()
        if self._failure is not None:
            raise StartError(self._failure)
        return self._drained or not self._processes.was_ready

    # What the processes report.

    def ready(self, rules: int) -> None:
        """Control serves so many rules, for the first time or again."""
        if self._processes.ending:
            return
        if self._processes.was_ready:
            self._log.log("info", "control serves again")
            return
        workers, count = _count(self._setup.workers, "worker"), _count(rules, "rule")
        self._log.say(
            f"ready: socket {self._setup.socket}, {workers}, ingress {self._setup.ingress}, {count}"
        )
        sd_notify("READY=1")

    def drain(self) -> None:
        """End in order: control stops the engines and reports, then all go."""
        if self._processes.ending:
            return
        self._processes.ending = True
        sd_notify("STOPPING=1")
        self._processes.tell_control("drain")
        self._drain_until_s = time.monotonic() + _DRAIN_S

    def drained(self) -> None:
        """Control has stopped the workers' engines and reported."""
        if self._processes.ending:
            self._drained = True

    def give_up(self, reason: str) -> None:
        """A child cannot be started at all."""
        self._failure = reason
        self._end_at_once()

    # The turn.

    def _turn(self) -> None:
        ready = self._reactor.wait(self._timeout_s())
        # Before the handlers: what has waited while this process was stopped counts as of now.
        self._clock.turn(time.monotonic())
        self._reactor.dispatch(ready)
        now_s = time.monotonic()
        self._processes.turn(now_s)
        if self._processes.ending:
            self._end(now_s)

    def _timeout_s(self) -> float:
        due_s = self._processes.next_restart_s()
        return _TICK_S if due_s is None else min(max(due_s - time.monotonic(), 0.0), _TICK_S)

    def _over(self) -> bool:
        if self._killed_at_s is not None and time.monotonic() > self._killed_at_s + _REAP_S:
            return True  # a process that the kernel cannot end, on a dead disk; it is told to
        return self._processes.ending and not self._processes.alive and not self._disk.pending

    def _end(self, now_s: float) -> None:
        """Take the next step of the end, when it is time."""
        if self._leave_until_s is None:
            gone = self._processes.control.child is None
            late = self._drain_until_s is not None and now_s > self._drain_until_s
            if late and not self._drained:
                self._log.log("warning", f"control did not drain within {_DRAIN_S:g} s")
            elif gone and not self._drained and self._processes.was_ready:
                self._log.log("warning", "control ended before it had drained")
            if self._drained or gone or late:
                self._processes.release_workers()
                self._leave_until_s = now_s + _LEAVE_S
        elif self._killed_at_s is None and now_s > self._leave_until_s:
            self._kill(now_s)

    def _end_at_once(self) -> None:
        self._processes.ending = True
        self._drained = False
        self._processes.release_workers()
        self._leave_until_s = time.monotonic()
        self._kill(self._leave_until_s)

    def _kill(self, now_s: float) -> None:
        self._processes.kill_all()
        self._killed_at_s = now_s

    # Signals.

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Have signals written to a socket that the loop reads, for the time of the block.

        After it they are ignored: the process ends, and no signal shall be what it ends by.
        """
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        for number in _SIGNALS:
            signal.signal(number, _noted)
        # Children inherit this. They are no foreground processes of a terminal, and one that is
        # set so (stty tostop) would stop them for writing to it.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)
        self._reactor.watch(near, lambda: self._take_signals(near))
        try:
            yield
        finally:
            self._reactor.forget(near)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            signal.set_wakeup_fd(-1)
            near.close()
            far.close()

    def _take_signals(self, near: socket.socket) -> None:
        told = b""
        with suppress(BlockingIOError):
            told = near.recv(4096)
        for number in told:
            if number == signal.SIGHUP:
                self._reload()
            elif number in _SIGNALS:
                self._asked_to_end()

    def _asked_to_end(self) -> None:
        if self._processes.ending:
            self._log.log("warning", "asked twice to end: ending without a report")
            self._end_at_once()
        else:
            self.drain()

    def _reload(self) -> None:
        if self._processes.ending:
            return
        if self._configuration is None:
            self._processes.tell_control("hosts")
        else:
            self._configuration.read_again(self._reloaded)

    def _reloaded(self, fault: str | None) -> None:
        if fault is not None:
            self._processes.log("warning", fault)
        elif self._configuration is not None:
            try:
                self._processes.tell_control("config", self._configuration.copy())
            except OSError as error:
                self._processes.log("warning", f"the configuration is not read: {error.strerror}")


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Python writes the signal's number to the wake-up descriptor; there is no more to do."""


def _read_files(
    setup: DaemonSettings, disk: DiskThread
) -> tuple[SnapshotStore, ConfigSource | None]:
    if setup.state is not None and not os.access(setup.state.parent, os.W_OK | os.X_OK):
        raise StartError(f"--state: files cannot be written in {setup.state.parent}")
    try:
        keeper = SnapshotStore(disk, setup.state)
    except OSError as error:
        raise StartError(f"--state: {setup.state} cannot be read: {error.strerror}") from error
    if setup.config is None:
        return keeper, None
    try:
        return keeper, ConfigSource(disk, setup.config)
    except OSError as error:
        raise StartError(f"--config: {setup.config} cannot be read: {error.strerror}") from error


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
