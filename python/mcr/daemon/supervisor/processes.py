"""The children: filling posts, making them known to each other, and what they ask for.

Owns who is alive and which channel leads where. When the daemon ends is decided in `loop`. What
goes over the channels is between control and the workers.
"""

import functools
import os
import socket
import time
from typing import Protocol

from ...protocol.constants import REFUSED_START
from ..sealed_memfd import SealedMemfdError, fixed_size_memfd
from ..settings import DaemonSettings
from .argv import ControlEnds, WorkerEnds
from .child import Child
from .child_channel import (
    DRAINED,
    KEEP,
    KEPT,
    KEPT_NOT_SAVED,
    PULSE,
    READY,
    RESTART,
    STOP,
    ChildChannel,
    Message,
)
from .config_source import ConfigSource
from .listener import Listener
from .log import StderrLog
from .managed_process import ManagedControl, ManagedProcess, ManagedWorker, ProcessDeath
from .native import Broker, NativeTools
from .reactor import Reactor
from .snapshot_store import SnapshotStore
from .watchdog import AwakeClock

TRIES = 5
"""So often a child may die before the daemon was ever ready; then it is given up."""
_REFUSED = "does not start: the rules to begin with are refused"
_NUMBERS_BYTES = 4096  # more than there are kinds of events
_NOTE_LENGTH = 2000  # characters; a message has to fit into the socket's buffer


class DaemonLifecycle(Protocol):
    """Who decides over the whole daemon."""

    def ready(self, rules: int) -> None:
        """Control serves so many rules, for the first time or again."""

    def drain(self) -> None:
        """A client asks for the end."""

    def drained(self) -> None:
        """Control has stopped the workers' engines and reported."""

    def give_up(self, reason: str) -> None:
        """A child cannot be started at all."""


class ProcessManager:
    """Control and the workers."""

    def __init__(
        self,
        *,
        setup: DaemonSettings,
        tools: NativeTools,
        reactor: Reactor,
        clock: AwakeClock,
        log: StderrLog,
        keeper: SnapshotStore,
        configuration: ConfigSource | None,
        listener: Listener,
        socket_gid: int,
        lifecycle: DaemonLifecycle,
    ) -> None:
        """Make the pages and the broker; nothing is started before `turn`."""
        self._setup = setup
        self._tools = tools
        self._reactor = reactor
        self._clock = clock
        self._log = log
        self._snapshots = keeper
        self._configuration = configuration
        self._listener = listener
        self._socket_gid = socket_gid
        self._lifecycle = lifecycle
        self._broker: Broker = tools.make_broker(setup)
        # Read also while no worker asks for anything: the kernel keeps only so many of them.
        reactor.watch(self._broker.deletions, self._broker.follow_deletions)
        # Where control writes the number of each event, so that its successor goes on behind it.
        self._numbers = fixed_size_memfd(_NUMBERS_BYTES, "mcr-events")
        self.control = ManagedControl()
        cpus = setup.cpus or (None,) * setup.workers
        self.workers = [
            ManagedWorker(number, cpus[number], tools.make_page())
            for number in range(setup.workers)
        ]
        self.ending = False
        """Whether vacant posts stay vacant."""
        self.was_ready = False

    @property
    def posts(self) -> list[ManagedProcess]:
        """All of them, workers first: control is told of those that there are."""
        return [*self.workers, self.control]

    @property
    def alive(self) -> bool:
        """Whether any child is left."""
        return any(post.child is not None for post in self.posts)

    def turn(self, now_s: float) -> None:
        """Kill who hangs, fill what is due."""
        for post in self.posts:
            post.kill_if_silent(self._clock.awake_s)
            if not self.ending and post.restart_at_s is not None and post.restart_at_s <= now_s:
                self._fill(post)

    def next_restart_s(self) -> float | None:
        """When the next vacant post is due; None if none is."""
        times = [post.restart_at_s for post in self.posts if post.restart_at_s is not None]
        return None if self.ending or not times else min(times)

    def log(self, level: str, text: str) -> None:
        """Have control log it, for it has the subscribers; where there is none, say it."""
        if self.control.channel is not None:
            self.control.channel.tell("note", level=level, text=text[:_NOTE_LENGTH])
        else:
            self._log.log(level, text)

    def tell_control(self, kind: str, descriptor: int | None = None) -> None:
        """Tell control something, if it is there."""
        if self.control.channel is not None:
            self.control.channel.tell(kind, descriptor)
        elif descriptor is not None:
            os.close(descriptor)

    def release_workers(self) -> None:
        """Let go of the workers, which makes them end."""
        for worker in self.workers:
            self._close_broker(worker)
            if worker.channel is not None:
                worker.channel.close()

    def kill_all(self) -> None:
        """End all children at once."""
        for post in self.posts:
            if post.child is not None:
                post.child.kill()

    def close(self) -> None:
        """Close what outlives the children."""
        self._broker.forget()
        os.close(self._numbers)
        for worker in self.workers:
            os.close(worker.page)

    # Filling a post.

    def _fill(self, post: ManagedProcess) -> None:
        post.incarnation += 1
        try:
            if isinstance(post, ManagedWorker):
                self._start_worker(post)
            else:
                self._start_control()
        except OSError as error:
            reason = f"could not be started: {error.strerror}"
            if post.child is None:
                self._ended(post, 0, reason)
            else:
                post.child.kill(reason)  # it runs, but there was no descriptor left for a channel

    def _start_worker(self, post: ManagedWorker) -> None:
        channel, channel_far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        broker, broker_far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with channel_far, broker_far:
            ends = WorkerEnds(channel_far.fileno(), broker_far.fileno(), post.page)
            command = self._tools.worker_command(self._setup, post.number, ends)
            try:
                child = Child(command, [ends.supervisor_channel, ends.broker, ends.page])
            except OSError:
                channel.close()
                broker.close()
                raise
        self._install(post, child, channel)
        broker.setblocking(False)
        post.broker = broker
        self._reactor.watch(broker, functools.partial(self._serve_broker, post))
        if self.control.channel is not None:
            self._introduce(post, self.control.channel)

    def _start_control(self) -> None:
        channel, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            ends = ControlEnds(far.fileno(), self._listener.socket.fileno(), self._numbers)
            command = self._tools.control_command(
                self._setup, self._socket_gid, self._listener.path, ends
            )
            try:
                child = Child(command, [ends.supervisor_channel, ends.listener, ends.numbers])
            except OSError:
                channel.close()
                raise
        self._open_control(self._install(self.control, child, channel))

    def _install(self, post: ManagedProcess, child: Child, end: socket.socket) -> ChildChannel:
        self._reactor.watch(child.pidfd, functools.partial(self._reap, post))
        channel = ChildChannel(
            end,
            self._reactor,
            functools.partial(self._heard, post),
            functools.partial(self._hung_up, post),
        )
        post.started(child, channel, self._clock.awake_s)
        return channel

    def _open_control(self, channel: ChildChannel) -> None:
        """Tell a new control process all that it has to know, in the order that it expects."""
        channel.tell("restore", self._snapshots.copy(), in_use=self._snapshots.in_use)
        for worker in self.workers:
            if worker.child is not None:
                self._introduce(worker, channel)
            elif worker.last_death is not None:
                self._tell_of_death(worker, worker.last_death)
        if self._configuration is not None and self._snapshots.empty:
            channel.tell("config", self._configuration.copy())
        if self.control.last_death is not None:
            cause = self.control.last_death.cause
            channel.tell("note", level="warning", text=f"control was started again: {cause}")
        channel.tell("begin")

    def _introduce(self, worker: ManagedWorker, control: ChildChannel) -> None:
        """Connect a worker and control by a channel of their own."""
        if worker.child is None or worker.channel is None:
            return
        death = worker.last_death
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        worker.channel.give_channel(near)
        control.tell(
            "worker",
            far.detach(),
            number=worker.number,
            pid=worker.child.pid,
            incarnation=worker.incarnation,
            cpu=worker.cpu,
            started_at=worker.started_at_s,
            deaths=worker.deaths,
            last_death=None if death is None else {"at": death.at_s, "cause": death.cause},
        )

    # What children do.

    def _heard(self, post: ManagedProcess, message: Message) -> None:
        if message.kind == PULSE:
            if post.watchdog is not None:
                post.watchdog.pulse(self._clock.awake_s)
        elif post is self.control:
            self._handle_control(message)
        else:
            if message.descriptor is not None:
                os.close(message.descriptor)
            self._kill(post, "sent what only control may")

    def _handle_control(self, message: Message) -> None:
        if message.kind == KEEP and message.descriptor is not None:
            self._keep(message.descriptor)
        elif message.kind == READY and message.number is not None:
            self._lifecycle.ready(message.number)
            self.was_ready = True
        elif message.kind == STOP:
            self._lifecycle.drain()
        elif message.kind == DRAINED:
            self._lifecycle.drained()
        elif message.kind == RESTART and message.number is not None:
            if message.number < len(self.workers):
                self._kill(self.workers[message.number], "did not answer control")
            else:
                self._kill(self.control, "named a worker that does not exist")

    def _keep(self, memory: int) -> None:
        channel = self.control.channel

        def answer(fault: str | None) -> None:
            if fault is not None:
                self.log("warning", fault)
            if channel is not None:
                channel.send(KEPT if fault is None else KEPT_NOT_SAVED)

        try:
            self._snapshots.keep(memory, answer)
        except SealedMemfdError as error:
            self._kill(self.control, f"sent a rule set that cannot be kept: {error}")

    def _hung_up(self, post: ManagedProcess, fault: str | None) -> None:
        if fault is not None:
            self._kill(post, fault)
        elif post.watchdog is not None:
            post.watchdog.hung_up(self._clock.awake_s)

    def _serve_broker(self, post: ManagedWorker) -> None:
        if post.broker is None:
            return
        try:
            open_still = self._broker.serve(post.number, post.broker.fileno())
        except Exception as error:  # Whatever it is came of what this one sent; the others go on.
            self._close_broker(post)
            self._kill(post, f"was ended by the broker: {error}")
            return
        if not open_still:
            self._close_broker(post)
            self._hung_up(post, None)

    def _close_broker(self, post: ManagedWorker) -> None:
        if post.broker is not None:
            self._reactor.forget(post.broker)
            post.broker.close()
            post.broker = None

    @staticmethod
    def _kill(post: ManagedProcess, reason: str) -> None:
        if post.child is not None:
            post.child.kill(reason)

    # What becomes of children.

    def _reap(self, post: ManagedProcess) -> None:
        child = post.child
        if child is None:
            return
        cause = child.reap()
        if cause is None:
            return
        self._reactor.forget(child.pidfd)
        child.close()
        if isinstance(post, ManagedWorker):
            self._serve_broker(post)  # so that it sees the end, behind the last requests
            self._close_broker(post)
        if post is self.control and child.exit_code == REFUSED_START:
            cause = _REFUSED
        self._ended(post, child.pid, cause)

    def _ended(self, post: ManagedProcess, pid: int, cause: str) -> None:
        now_s = time.monotonic()
        death = ProcessDeath(pid, cause, time.time())
        post.exited(death, now_s)
        if self.ending:
            return
        if not self.was_ready and cause == _REFUSED:
            self._lifecycle.give_up(f"{post.name} {cause}")
        elif not self.was_ready and post.deaths >= TRIES:
            self._lifecycle.give_up(f"{post.name} died {TRIES} times: {cause}")
        elif isinstance(post, ManagedWorker) and self.control.channel is not None:
            self._tell_of_death(post, death)
        else:
            who = f"{post.name} (pid {pid})" if pid else post.name
            wait_ms = post.restart_in_ms(now_s)
            self._log.log("warning", f"{who} {cause}; the next one starts in {wait_ms} ms")

    def _tell_of_death(self, worker: ManagedWorker, death: ProcessDeath) -> None:
        if self.control.channel is not None:
            self.control.channel.tell(
                "worker_ended",
                number=worker.number,
                pid=death.pid,
                incarnation=worker.incarnation,
                cause=death.cause,
                at=death.at_s,
                restart_in_ms=worker.restart_in_ms(time.monotonic()),
                deaths=worker.deaths,
            )
