"""The supervisor's main loop, its signals, and the shutdown of the daemon.

`ProcessManager` owns the child processes.
"""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType

from ...choices import Level
from ..settings import DaemonSettings
from .child_channel import CHECKED, HELD, STOPPED
from .config_source import ConfigSource
from .disk_thread import DiskThread
from .errors import StartError
from .handover.endpoint import TakeoverSocket
from .handover.inheritance import Inheritance
from .handover.new_version import NewVersion
from .handover.predecessor import Predecessor
from .handover.successor import Successor
from .listener import Listener
from .log import StderrLog
from .managed_process import ManagedProcess
from .native import NativeTools
from .process_manager import ProcessManager
from .reactor import Reactor
from .reload import Reload
from .service_manager import ServiceManager
from .snapshot_store import SnapshotStore
from .watchdog import AwakeClock

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
_TICK_S = 0.25  # the longest iteration, and so the delay in noticing a child that hangs
_DRAIN_S = 10.0  # for control to stop the engines and to report
_EXIT_S = 1.0  # for the children to exit by themselves; then they are killed
_REAP_S = 2.0  # for the kernel to end killed processes


class Supervisor:
    """The main loop and its phases: running, draining (control reports), children exiting."""

    def __init__(
        self,
        settings: DaemonSettings,
        tools: NativeTools,
        listener: Listener,
        socket_gid: int,
        log: StderrLog,
        *,
        observers: Listener | None = None,
        inheritance: Inheritance | None = None,
    ) -> None:
        """Read the files and create everything that outlives the children.

        Raises:
            StartError: a file cannot be read, or what was inherited cannot be used.
        """
        self._settings = settings
        self._log = log
        self._manager = ServiceManager()
        self._reactor = Reactor()
        self._clock = AwakeClock(time.monotonic())
        self._disk = DiskThread()
        self._reactor.watch(self._disk.descriptor, self._disk.run_callbacks)
        snapshots, configuration = _read_files(settings, self._disk)
        self._listeners = (listener, observers)
        self._socket_gid = socket_gid
        self._endpoint: TakeoverSocket | None = None
        self._processes = ProcessManager(
            settings=settings,
            tools=tools,
            reactor=self._reactor,
            clock=self._clock,
            log=log,
            snapshots=snapshots,
            configuration=configuration,
            listener=listener,
            socket_gid=socket_gid,
            observers=observers,
            lifecycle=self,
            inherited=inheritance,
        )
        self._reload = Reload(configuration, self._processes, self._manager)
        self._new_version = NewVersion(settings.command, self._reactor, self)
        self._successor: Successor | None = None
        if inheritance is not None:
            self._successor = self._succeed(inheritance, tools, snapshots)
        self._predecessor = Predecessor(
            settings=settings,
            tools=tools,
            reactor=self._reactor,
            processes=self._processes,
            snapshots=snapshots,
            listeners=self._listeners,
            supervisor=self,
        )
        self._start_failure: str | None = None
        self._drained = False
        self._drain_deadline_s: float | None = None
        self._exit_deadline_s: float | None = None
        self._killed_at_s: float | None = None

    def run(self) -> bool:
        """Run until a signal or a client ends the daemon; return whether it shut down cleanly.

        Raises:
            StartError: a child died repeatedly before control was ready.
        """
        with ExitStack() as stack:
            stack.callback(lambda: self._log.report_suppressed(at_once=True))
            stack.callback(self._disk.close)
            stack.callback(self._reactor.close)
            stack.callback(self._processes.close)
            stack.callback(self._processes.kill_all)
            stack.callback(self._close_handover)
            stack.enter_context(self._signals())
            while not self._is_finished():
                self._run_once()
        if self._start_failure is not None:
            raise StartError(self._start_failure)
        return self._drained or not self._processes.was_ready

    # Called by the process manager.

    def control_ready(self, rules: int) -> None:
        """Log and notify that the daemon is ready with this many rules."""
        if self._processes.shutting_down:
            return
        if self._processes.was_ready:
            self._log.log("info", "control is serving again")
            self._reload.control_ready()
            return
        self._own_socket()
        settings = self._settings
        workers, count = _count(settings.workers, "worker"), _count(rules, "rule")
        ready = f"ready: socket {settings.socket}, {workers}, ingress {settings.ingress}, {count}"
        former = f", taken over from process {self._successor.pid}" if self._successor else ""
        self._log.write(ready + former)
        self._manager.notify(f"MAINPID={os.getpid()}\nREADY=1" if self._successor else "READY=1")

    def drain(self) -> None:
        """Shut down cleanly: control stops the engines and reports, then all children exit."""
        if self._processes.shutting_down:
            return
        if self._predecessor.is_active:
            self._predecessor.cancel()
        self._processes.shutting_down = True
        self._manager.notify("STOPPING=1")
        self._processes.send_to_control("drain")
        self._drain_deadline_s = time.monotonic() + _DRAIN_S

    def control_drained(self) -> None:
        """Record that control has stopped the workers' engines and reported."""
        if self._processes.shutting_down:
            self._drained = True

    def load_configuration(self, patterns: int) -> None:
        """Read the configuration again, for control; takes ownership of the patterns.

        Raises:
            SealedMemfdError: the patterns are invalid.
        """
        self._reload.load(patterns)

    def control_reloaded(self, number: int) -> None:
        """Record that control has applied or refused what it was sent with this number."""
        self._reload.answer(number)

    def abort_start(self, reason: str) -> None:
        """Shut down, because a child cannot be started at all."""
        self._start_failure = reason
        self._shut_down_now()

    def control_told(self, kind: bytes) -> None:
        """Pass a step of a handover on."""
        if kind == CHECKED and self._successor is not None:
            self._successor.control_checked()
        elif kind == HELD:
            self._predecessor.control_held()
        elif kind == STOPPED:
            self._predecessor.control_stopped()

    def take_exit(self, process: ManagedProcess, cause: str) -> bool:
        """End a takeover in which a child has exited; return whether a handover deals with it."""
        if self._successor is not None and self._successor.is_active:
            self._successor.abort(f"{process.name} {cause}")
            return True
        return self._predecessor.take_exit(is_control=process is self._processes.control)

    # Called by a handover.

    def log(self, level: Level, text: str) -> None:
        """Log a record."""
        self._log.log(level, text)

    def show(self, text: str) -> None:
        """Tell a user who waits at a terminal."""
        self._log.write_to_terminal(text)

    def notify_successor(self, pid: int) -> None:
        """Tell the service manager which process is the daemon from now on."""
        # One that was not started from here does not know the manager's watchdog.
        is_watched = pid == self._new_version.pid or not self._manager.has_watchdog
        self._manager.notify(f"MAINPID={pid}" + ("" if is_watched else "\nWATCHDOG_USEC=0"))

    def handed_over(self) -> None:
        """End without a report: another daemon relays, and has everything."""
        self._processes.shutting_down = True
        self._drained = True
        self._processes.send_to_control("leave")

    # The main loop.

    def _run_once(self) -> None:
        ready = self._reactor.wait(self._timeout_s())
        # Before the handlers: messages that waited while this process was stopped count as new.
        self._clock.tick(time.monotonic())
        self._reactor.dispatch(ready)
        self._processes.kill_silent()
        now_s = time.monotonic()
        self._processes.start_due(now_s)
        self._manager.ping([each.heartbeats for each in self._processes.workers], now_s)
        self._predecessor.check_time(now_s)
        if self._successor is not None:
            self._successor.check_time(now_s)
        self._log.report_suppressed()
        self._reload.check()
        if self._processes.shutting_down:
            self._continue_shutdown(now_s)

    def _timeout_s(self) -> float:
        restart_s = self._processes.next_restart_s()
        if restart_s is None:
            return _TICK_S
        return min(max(restart_s - time.monotonic(), 0.0), _TICK_S)

    def _is_finished(self) -> bool:
        if self._killed_at_s is not None and time.monotonic() > self._killed_at_s + _REAP_S:
            return True  # a process on a dead disk that SIGKILL does not end yet
        manager = self._processes
        return manager.shutting_down and not manager.any_alive and not self._disk.pending

    def _continue_shutdown(self, now_s: float) -> None:
        """Enter the next phase of the shutdown when its condition holds."""
        if self._exit_deadline_s is None:
            has_exited = self._processes.control.child is None
            is_late = self._drain_deadline_s is not None and now_s > self._drain_deadline_s
            if is_late and not self._drained:
                self._log.log("warning", f"control did not drain within {_DRAIN_S:g} s")
            elif has_exited and not self._drained and self._processes.was_ready:
                self._log.log("warning", "control exited before it had drained")
            if self._drained or has_exited or is_late:
                self._processes.disconnect_workers()
                self._exit_deadline_s = now_s + _EXIT_S
        elif self._killed_at_s is None and now_s > self._exit_deadline_s:
            self._kill_all(now_s)

    def _shut_down_now(self) -> None:
        self._processes.shutting_down = True
        self._drained = False
        self._processes.disconnect_workers()
        self._exit_deadline_s = time.monotonic()
        self._kill_all(self._exit_deadline_s)

    def _kill_all(self, now_s: float) -> None:
        self._processes.kill_all()
        self._killed_at_s = now_s

    # Handovers.

    def _succeed(
        self, inheritance: Inheritance, tools: NativeTools, snapshots: SnapshotStore
    ) -> Successor:
        """Prepare to continue what another daemon hands over."""
        inheritance.give_rules(snapshots)
        inheritance.give_leases(self._processes.desk.broker)
        return Successor(inheritance, tools, self._reactor, self._processes, self)

    def _own_socket(self) -> None:
        """Own the socket, and let another version take it over; the old daemon ends first."""
        if self._successor is not None:
            self._successor.commit()
            self._processes.send_to_control("own")
            for listener in self._listeners:
                if listener is not None:
                    listener.own(self._group_of(listener))
        try:
            path = self._settings.socket
            self._endpoint = TakeoverSocket(path, self._reactor, self._predecessor.accept)
        except OSError as error:
            text = f"no other version can take this daemon over: {error.strerror}"
            self._log.log("warning", text)

    def _group_of(self, listener: Listener) -> int:
        is_main = listener is self._listeners[0] or self._settings.observers is None
        return self._socket_gid if is_main else self._settings.observers or 0

    def _close_handover(self) -> None:
        if self._endpoint is not None:
            self._endpoint.close()
        self._predecessor.close()
        self._new_version.close()
        # Before the takeover is complete, the old daemon resumes once this end is closed, and kills
        # this process: it is closed last, by its exit.
        if self._successor is not None and not self._successor.is_active:
            self._successor.close()

    # Signals.

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Within the block, write signal numbers to a socket that the main loop reads.

        After the block the signals are ignored, so that none of them kills the exiting process.
        """
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        for number in _SIGNALS:
            signal.signal(number, _on_signal)
        # Inherited by children. They are background processes of a terminal, and with `stty tostop`
        # the kernel would stop them when they write to it.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._reactor.watch(reader, lambda: self._read_signals(reader))
        try:
            yield
        finally:
            self._reactor.forget(reader)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            signal.set_wakeup_fd(-1)
            reader.close()
            writer.close()

    def _read_signals(self, reader: socket.socket) -> None:
        numbers = b""
        with suppress(BlockingIOError):
            numbers = reader.recv(4096)
        for number in numbers:
            if number in {signal.SIGTERM, signal.SIGINT}:
                self._terminate()
            elif number == signal.SIGHUP and not self._processes.shutting_down:
                self._reload.request()
            elif number == signal.SIGUSR2 and not self._processes.shutting_down:
                self._new_version.start()

    def _terminate(self) -> None:
        if self._successor is not None and self._successor.is_active:
            self._successor.abort("it was told to end")
        elif self._processes.shutting_down:
            self._log.log("warning", "second request to shut down: exiting without a report")
            self._shut_down_now()
        else:
            self.drain()


def _on_signal(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: Python has written the signal number to the wake-up descriptor."""


def _read_files(
    settings: DaemonSettings, disk: DiskThread
) -> tuple[SnapshotStore, ConfigSource | None]:
    state, config = settings.state, settings.config
    if state is not None and not os.access(state.parent, os.W_OK | os.X_OK):
        raise StartError(f"--state: files cannot be written in {state.parent}")
    try:
        snapshots = SnapshotStore(disk, state)
    except OSError as error:
        raise StartError(f"--state: {state} cannot be read: {error.strerror}") from error
    if config is None:
        return snapshots, None
    try:
        return snapshots, ConfigSource(disk, config, settings.include)
    except OSError as error:
        name = error.filename or config
        raise StartError(f"--config: {name} cannot be read: {error.strerror}") from error


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
