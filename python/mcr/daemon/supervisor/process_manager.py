"""The child processes: starts and restarts them, connects them, and handles their messages.

`Supervisor` decides when the daemon ends. The content of the worker channels is known to control
and the workers alone.
"""

import functools
import os
import socket
import time
from dataclasses import astuple

from ...choices import Facility, Level
from ...protocol.constants import REFUSED_START
from ...shared_memory import fixed_size_memfd, reopen_read_only
from ..sealed_memfd import SealedMemfdError
from ..settings import DaemonSettings
from .argv import ControlDescriptors, WorkerDescriptors
from .broker_desk import BrokerDesk
from .child import Child
from .child_channel import (
    CHECKED,
    DRAINED,
    HEARTBEAT,
    HELD,
    KEEP,
    KEPT,
    KEPT_NOT_SAVED,
    LOAD,
    READY,
    RELOADED,
    RESTART,
    STOP,
    STOPPED,
    ChildChannel,
    Message,
)
from .config_source import ConfigSource
from .lifecycle import DaemonLifecycle, InheritedMemory
from .listener import Listener
from .log import StderrLog
from .managed_process import ManagedControl, ManagedProcess, ManagedWorker, ProcessDeath
from .native import NativeTools
from .reactor import Reactor
from .snapshot_store import SnapshotStore
from .watchdog import AwakeClock

START_DEATHS = 5
"""The start of the daemon fails when a child has died this often before control was ready."""
_REFUSED = "does not start: the initial rules are refused"
_NUMBERS_BYTES = 4096  # more than the 8 bytes for each kind of event need
_NOTE_LENGTH = 2000  # characters; a message must fit into the socket's buffer


class ProcessManager:
    """Control and the workers."""

    def __init__(
        self,
        *,
        settings: DaemonSettings,
        tools: NativeTools,
        reactor: Reactor,
        clock: AwakeClock,
        log: StderrLog,
        snapshots: SnapshotStore,
        configuration: ConfigSource | None,
        listener: Listener,
        socket_gid: int,
        observers: Listener | None,
        lifecycle: DaemonLifecycle,
        inherited: InheritedMemory | None = None,
    ) -> None:
        """Create the pages and the broker; `start_due` starts the processes.

        What was inherited from another daemon is used in their place, and owned from now on.
        """
        self._settings = settings
        self._tools = tools
        self._reactor = reactor
        self._clock = clock
        self._log = log
        self._snapshots = snapshots
        self._configuration = configuration
        self._listener = listener
        self._socket_gid = socket_gid
        self._observers = observers
        self._lifecycle = lifecycle
        self.desk = BrokerDesk(
            tools.make_broker(settings),
            reactor,
            on_fault=self._reject,
            on_end=lambda worker: self._handle_disconnect(worker, None),
        )
        # Control writes the number of each event here; after a restart it continues from there.
        self.numbers = inherited.numbers if inherited else _numbers_memory()
        """The memory for the numbers of events."""
        self.control = ManagedControl()
        cpus = settings.cpus or (None,) * settings.workers
        pages = list(inherited.pages) if inherited else []
        self.workers = [
            ManagedWorker(number, cpus[number], pages[number] if pages else tools.make_page())
            for number in range(settings.workers)
        ]
        self._is_serving = inherited is None
        """Whether control and workers may know of each other; False before a takeover."""
        self.shutting_down = False
        """Whether processes that exit are not restarted."""
        self.is_handing_over = False
        """Whether they are not restarted for now, since another daemon takes over."""
        self.was_ready = False
        """Whether control has been ready at least once."""

    @property
    def processes(self) -> list[ManagedProcess]:
        """All processes; workers first, so that a new control process learns of running ones."""
        return [*self.workers, self.control]

    @property
    def any_alive(self) -> bool:
        """Whether any child process exists."""
        return any(process.child is not None for process in self.processes)

    def kill_silent(self) -> None:
        """Kill the processes whose watchdog has expired."""
        for process in self.processes:
            process.kill_if_silent(self._clock.awake_s)

    def start_due(self, now_s: float) -> None:
        """Start the processes whose restart delay is over."""
        if self.shutting_down or self.is_handing_over:
            return
        for process in self.processes:
            if process.restart_at_s is not None and process.restart_at_s <= now_s:
                self._start(process)

    def next_restart_s(self) -> float | None:
        """The monotonic time of the next restart, in seconds; None if none is scheduled."""
        times = [p.restart_at_s for p in self.processes if p.restart_at_s is not None]
        is_idle = self.shutting_down or self.is_handing_over
        return None if is_idle or not times else min(times)

    def log(self, level: Level, text: str, facility: Facility = "supervisor") -> None:
        """Log through control, which has the subscribers; without control, log to stderr."""
        if self.control.channel is not None:
            text = text[:_NOTE_LENGTH]
            self.control.channel.send_json("note", level=level, facility=facility, text=text)
        else:
            self._log.log(level, text, facility)

    def send_to_control(self, kind: str, descriptor: int | None = None, **fields: object) -> None:
        """Send control a message, if it runs; the descriptor is closed in any case."""
        if self.control.channel is not None:
            self.control.channel.send_json(kind, descriptor, **fields)
        elif descriptor is not None:
            os.close(descriptor)

    def disconnect_workers(self) -> None:
        """Close the channels to the workers, which makes them exit."""
        for worker in self.workers:
            self.desk.disconnect(worker)
            if worker.channel is not None:
                worker.channel.close()

    def kill_workers(self, reason: str) -> None:
        """Kill the workers."""
        for worker in self.workers:
            self._kill(worker, reason)

    def begin_serving(self) -> None:
        """Let the workers have the inherited sockets, and control give them the rules."""
        self._is_serving = True
        self.desk.open()
        if self.control.channel is not None:
            self._connect_all(self.control.channel)

    def kill_all(self) -> None:
        """Kill all children."""
        for process in self.processes:
            if process.child is not None:
                process.child.kill()

    def close(self) -> None:
        """Close the descriptors that outlive the children."""
        self.desk.broker.forget()
        os.close(self.numbers)
        for worker in self.workers:
            os.close(worker.page)

    # Start.

    def _start(self, process: ManagedProcess) -> None:
        process.incarnation += 1
        try:
            if isinstance(process, ManagedWorker):
                self._start_worker(process)
            else:
                self._start_control()
        except OSError as error:
            reason = f"could not be started: {error.strerror}"
            if process.child is None:
                self._handle_exit(process, 0, reason)
            else:
                process.child.kill(reason)  # it runs, but no descriptor was left for a channel

    def _start_worker(self, worker: ManagedWorker) -> None:
        channel, child_channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        broker, child_broker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with child_channel, child_broker:
            descriptors = WorkerDescriptors(
                child_channel.fileno(), child_broker.fileno(), worker.page
            )
            command = self._tools.worker_command(self._settings, worker.number, descriptors)
            try:
                child = Child(command, astuple(descriptors))
            except OSError:
                channel.close()
                broker.close()
                raise
        self._attach(worker, child, channel)
        self.desk.connect(worker, broker)
        if self.control.channel is not None and self._is_serving:
            self._connect_to_control(worker, self.control.channel)

    def _start_control(self) -> None:
        channel, child_channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with child_channel, reopen_read_only(each.page for each in self.workers) as pages:
                descriptors = ControlDescriptors(
                    child_channel.fileno(),
                    self._listener.socket.fileno(),
                    self.numbers,
                    pages,
                    self._observers.socket.fileno() if self._observers else None,
                )
                command = self._tools.control_command(
                    self._settings, self._socket_gid, self._listener.path, descriptors
                )
                child = Child(command, descriptors.all)
        except OSError:
            channel.close()
            raise
        self._initialize_control(self._attach(self.control, child, channel))

    def _attach(self, process: ManagedProcess, child: Child, end: socket.socket) -> ChildChannel:
        self._reactor.watch(child.pidfd, functools.partial(self._reap, process))
        channel = ChildChannel(
            end,
            self._reactor,
            functools.partial(self._handle_message, process),
            functools.partial(self._handle_disconnect, process),
        )
        process.record_start(child, channel, self._clock.awake_s)
        return channel

    def _initialize_control(self, channel: ChildChannel) -> None:
        """Send a new control process the current state, in the order that it expects."""
        channel.send_json("restore", self._snapshots.duplicate(), in_use=self._snapshots.in_use)
        if self._is_serving:
            self._connect_all(channel)
        else:
            channel.send_json("check")

    def _connect_all(self, channel: ChildChannel) -> None:
        """Connect control to the workers, and have it begin."""
        for worker in self.workers:
            if worker.child is not None:
                self._connect_to_control(worker, channel)
            elif worker.last_death is not None:
                self._report_death(worker, worker.last_death)
        if self._configuration is not None and not self._snapshots.in_use:
            include = self._configuration.include
            channel.send_json("config", self._configuration.duplicate(), include=include)
        if self.control.last_death is not None:
            cause = self.control.last_death.cause
            text = f"control was restarted: {cause}"
            channel.send_json("note", level="warning", facility="supervisor", text=text)
        channel.send_json("begin")

    def _connect_to_control(self, worker: ManagedWorker, control: ChildChannel) -> None:
        """Give a worker and control the two ends of a new channel."""
        if worker.child is None or worker.channel is None:
            return
        death = worker.last_death
        worker_end, control_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        worker.channel.send_worker_channel(worker_end)
        control.send_json(
            "worker",
            control_end.detach(),
            number=worker.number,
            pid=worker.child.pid,
            incarnation=worker.incarnation,
            cpu=worker.cpu,
            started_at=worker.started_at_s,
            deaths=worker.deaths,
            last_death=None
            if death is None
            else {"at": death.at_s, "monotonic_s": death.monotonic_s, "cause": death.cause},
        )

    # Messages.

    def _handle_message(self, process: ManagedProcess, message: Message) -> None:
        if message.kind == HEARTBEAT:
            process.record_heartbeat(self._clock.awake_s)
        elif process is self.control:
            self._handle_control(message)
        else:
            if message.descriptor is not None:
                os.close(message.descriptor)
            self._kill(process, "sent a message that is reserved for control")

    def _handle_control(self, message: Message) -> None:
        if message.kind == KEEP and message.descriptor is not None:
            self._keep_snapshot(message.descriptor)
        elif message.kind == LOAD and message.descriptor is not None:
            self._load_configuration(message.descriptor)
        elif message.kind == READY and message.number is not None:
            self._lifecycle.control_ready(message.number)
            self.was_ready = True
        elif message.kind == RELOADED and message.number is not None:
            self._lifecycle.control_reloaded(message.number)
        elif message.kind == STOP:
            self._lifecycle.drain()
        elif message.kind == DRAINED:
            self._lifecycle.control_drained()
        elif message.kind in {HELD, STOPPED, CHECKED}:
            self._lifecycle.control_told(message.kind)
        elif message.kind == RESTART and message.number is not None:
            if message.number < len(self.workers):
                self._kill(self.workers[message.number], "did not answer control", message.pid)
            else:
                self._kill(self.control, "named a worker that does not exist")

    def _load_configuration(self, patterns: int) -> None:
        try:
            self._lifecycle.load_configuration(patterns)
        except SealedMemfdError as error:
            self._kill(self.control, f"requested an invalid configuration: {error}")

    def _keep_snapshot(self, memory: int) -> None:
        channel = self.control.channel

        def answer(fault: str | None) -> None:
            if fault is not None:
                self.log("warning", fault)
            if channel is not None:
                channel.send(KEPT if fault is None else KEPT_NOT_SAVED)

        try:
            self._snapshots.keep(memory, answer)
        except SealedMemfdError as error:
            self._kill(self.control, f"sent an invalid rule set snapshot: {error}")

    def _handle_disconnect(self, process: ManagedProcess, fault: str | None) -> None:
        if fault is not None:
            self._kill(process, fault)
        elif process.watchdog is not None:
            process.watchdog.record_disconnect(self._clock.awake_s)

    def _reject(self, worker: ManagedWorker, fault: str) -> None:
        self.log("error", f"the broker rejects {worker.name}: {fault}", "security")
        self._kill(worker, f"was rejected by the broker: {fault}")

    @staticmethod
    def _kill(process: ManagedProcess, reason: str, pid: int | None = None) -> None:
        """Kill a process; with `pid`, only this one and not its successor."""
        if process.child is not None and pid in {None, process.child.pid}:
            process.child.kill(reason)

    # Exit.

    def _reap(self, process: ManagedProcess) -> None:
        child = process.child
        if child is None:
            return
        cause = child.reap()
        if cause is None:
            return
        self._reactor.forget(child.pidfd)
        child.close()
        if isinstance(process, ManagedWorker):
            self.desk.serve(process)  # the broker sees the last requests and the end of stream
            self.desk.disconnect(process)
        if process is self.control and child.exit_code == REFUSED_START:
            cause = _REFUSED
        self._handle_exit(process, child.pid, cause)

    def _handle_exit(self, process: ManagedProcess, pid: int, cause: str) -> None:
        now_s = time.monotonic()
        death = ProcessDeath(pid, cause, time.time(), now_s)
        process.record_exit(death, now_s)
        if self.shutting_down or self._lifecycle.take_exit(process, cause):
            return
        if not self.was_ready and cause == _REFUSED:
            self._lifecycle.abort_start(f"{process.name} {cause}")
        elif not self.was_ready and process.deaths >= START_DEATHS:
            self._lifecycle.abort_start(f"{process.name} died {START_DEATHS} times: {cause}")
        elif isinstance(process, ManagedWorker) and self.control.channel is not None:
            self._report_death(process, death)
        else:
            label = f"{process.name} (pid {pid})" if pid else process.name
            delay_ms = process.restart_in_ms(now_s)
            self._log.log("warning", f"{label} {cause}; restarting in {delay_ms} ms")

    def _report_death(self, worker: ManagedWorker, death: ProcessDeath) -> None:
        if self.control.channel is not None:
            self.control.channel.send_json(
                "worker_ended",
                number=worker.number,
                pid=death.pid,
                incarnation=worker.incarnation,
                cause=death.cause,
                at=death.at_s,
                monotonic_s=death.monotonic_s,
                restart_in_ms=worker.restart_in_ms(time.monotonic()),
                deaths=worker.deaths,
            )


def _numbers_memory() -> int:
    return fixed_size_memfd(_NUMBERS_BYTES, "mcr-events")
