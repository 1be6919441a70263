"""The running supervisor's side of a handover: gives everything to a new one, or resumes.

It ends only once the new one says that its workers relay. If that one fails before, whether its
process ends or hangs, this one makes sure that it has ended, and resumes.
"""

import enum
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

from ....choices import Level
from ...sealed_memfd import sealed_memfd
from ...settings import DaemonSettings
from ..listener import Listener
from ..native import NativeTools
from ..process_manager import ProcessManager
from ..reactor import Reactor
from ..snapshot_store import SnapshotStore
from .form import Form, FormError, Kind, Needs, TakeoverRefusal
from .link import Incoming, Outgoing, SupervisorLink

_COUNTS_NAME = "mcr-counts"


class HandoverPhase(enum.Enum):
    """How far a handover is."""

    IDLE = enum.auto()
    HOLDING = enum.auto()
    """Control finishes the change in progress, and makes no other."""
    OFFERED = enum.auto()
    """The new daemon starts."""
    STOPPING = enum.auto()
    """The engines send what they have received."""
    ENDING = enum.auto()
    """The workers are being killed."""
    GONE = enum.auto()
    """The new workers have the sockets."""
    FENCING = enum.auto()
    """The new daemon has failed, and its process ends."""
    LEFT = enum.auto()
    """The new daemon relays."""


_HELLO_S = 5.0
_LIMITS_S = {
    HandoverPhase.HOLDING: 15.0,
    HandoverPhase.OFFERED: 60.0,
    HandoverPhase.STOPPING: 10.0,
    HandoverPhase.ENDING: 5.0,
    HandoverPhase.GONE: 30.0,
}
"""How long a step may take."""


class HandsOver(Protocol):
    """The methods of `Supervisor` that a handover calls."""

    def log(self, level: Level, text: str) -> None:
        """Log a record."""

    def notify_successor(self, pid: int) -> None:
        """Tell the service manager which process is the daemon from now on."""

    def handed_over(self) -> None:
        """Another daemon has everything: end."""


class Predecessor:
    """The handover of this daemon to another supervisor."""

    def __init__(
        self,
        *,
        settings: DaemonSettings,
        tools: NativeTools,
        reactor: Reactor,
        processes: ProcessManager,
        snapshots: SnapshotStore,
        listeners: tuple[Listener, Listener | None],
        supervisor: HandsOver,
    ) -> None:
        """Wait for a connection."""
        self._settings, self._tools, self._reactor = settings, tools, reactor
        self._processes, self._snapshots, self._listeners = processes, snapshots, listeners
        self._supervisor = supervisor
        self._step = HandoverPhase.IDLE
        self._entered_s = 0.0
        self._link: SupervisorLink | None = None
        self._peer: Needs | None = None
        self._pid = 0
        self._pidfd: int | None = None

    @property
    def is_active(self) -> bool:
        """Whether a handover is going on."""
        return self._step not in {HandoverPhase.IDLE, HandoverPhase.LEFT}

    def accept(self, link: SupervisorLink, pid: int) -> None:
        """Begin with a supervisor that has connected; a second one is refused."""
        if self._step is not HandoverPhase.IDLE or self._link is not None:
            link.say(Kind.REFUSED, TakeoverRefusal.BUSY)
            link.close()
            return
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:
            link.close()
            return
        self._link, self._pid = link, pid
        self._entered_s = time.monotonic()
        link.watch(self._reactor, self._receive, self._handle_end)

    def cancel(self) -> None:
        """End a handover because this daemon ends."""
        self._refuse(TakeoverRefusal.ENDING)

    def check_time(self, now_s: float) -> None:
        """End a handover that takes too long."""
        is_silent = self._step is HandoverPhase.IDLE and self._link is not None
        limit_s = _HELLO_S if is_silent else _LIMITS_S.get(self._step)
        if limit_s is not None and now_s - self._entered_s > limit_s:
            self._refuse(
                TakeoverRefusal.BUSY
                if self._step is HandoverPhase.HOLDING
                else TakeoverRefusal.TIMEOUT
            )

    def control_held(self) -> None:
        """Control makes no more changes: hand over everything."""
        if self._step is not HandoverPhase.HOLDING or self._link is None or self._peer is None:
            return
        snapshot = self._snapshots.duplicate()
        if snapshot is None:
            self._refuse(TakeoverRefusal.NOT_READY)
            return
        self._enter(HandoverPhase.OFFERED)
        self._link.send_all(self._offer(snapshot, self._peer))

    def control_stopped(self) -> None:
        """The engines have stopped: end the workers."""
        if self._step is HandoverPhase.STOPPING:
            self._enter(HandoverPhase.ENDING)
            self._processes.kill_workers("handed its sockets over")
            self._check_workers()

    def take_exit(self, *, is_control: bool) -> bool:
        """Note the exit of a child; return whether that belongs to the handover."""
        if self._step in {HandoverPhase.HOLDING, HandoverPhase.OFFERED} or (
            is_control and self._step is HandoverPhase.STOPPING
        ):
            self._refuse(TakeoverRefusal.DIED)
            return False
        if self._step is HandoverPhase.ENDING:
            self._check_workers()
        return self._step in {HandoverPhase.STOPPING, HandoverPhase.ENDING, HandoverPhase.GONE}

    def close(self) -> None:
        """Close the connection, without any other step."""
        self._release()

    # Messages.

    def _receive(self, message: Incoming) -> None:
        kind = message.form.kind
        if kind is Kind.HELLO and self._peer is None:
            self._begin(Needs.read(message.form))
        elif kind is Kind.STANDBY and self._step is HandoverPhase.OFFERED:
            self._enter(HandoverPhase.STOPPING)
            self._processes.is_handing_over = True
            self._processes.send_to_control("stop_engines")
        elif kind is Kind.COMMIT and self._step is HandoverPhase.GONE:
            self._leave()
        else:
            raise FormError(f"{kind.name} at the wrong time")

    def _begin(self, peer: Needs) -> None:
        own = daemon_needs(self._settings, self._tools)
        if self._settings.offload != "off":
            self._refuse(TakeoverRefusal.OFFLOAD)
        elif not self._processes.was_ready or self._processes.control.channel is None:
            self._refuse(TakeoverRefusal.NOT_READY)
        elif (reason := own.refusal(peer)) is not None:
            self._refuse(*reason)
        else:
            self._peer = peer
            self._enter(HandoverPhase.HOLDING)
            self._supervisor.log("info", f"handing over to process {self._pid}")
            self._processes.send_to_control("hold")

    def _offer(self, snapshot: int, peer: Needs) -> Iterator[Outgoing]:
        listener, observers = self._listeners
        given = [*listener.descriptors, self._processes.numbers, snapshot]
        if observers is not None and os.fsencode(observers.path) == peer.observers:
            given += observers.descriptors
        is_same = peer.layout == self._tools.page_layout()
        offer = Form(Kind.OFFER, int(is_same))
        yield Outgoing(offer, tuple(given), owned=(snapshot,))
        for worker in self._processes.workers if is_same else ():
            yield Outgoing(Form(Kind.PAGE, worker.number), (worker.page,))
        self._processes.desk.close()
        leases = self._processes.desk.broker.leased()
        for record, descriptor in leases:
            yield Outgoing(Form(Kind.LEASE, content=record), (descriptor,))
        yield Outgoing(Form(Kind.OFFERED, len(leases)))
        # What workers request until they end changes nothing for the sockets that were sent.
        self._processes.desk.open()

    def _check_workers(self) -> None:
        """Let the new daemon go on once no worker of this one exists."""
        if self._link is None or any(each.child is not None for each in self._processes.workers):
            return
        self._enter(HandoverPhase.GONE)
        if self._peer is not None and self._peer.layout != self._tools.page_layout():
            for worker in self._processes.workers:
                counts = sealed_memfd(self._tools.export_counters(worker.page), _COUNTS_NAME)
                form = Form(Kind.COUNTS, worker.number)
                self._link.send(Outgoing(form, (counts,), owned=(counts,)))
        self._link.say(Kind.GO)

    def _leave(self) -> None:
        self._step = HandoverPhase.LEFT
        for listener in self._listeners:
            if listener is not None and self._is_given(listener):
                listener.disown()
        self._supervisor.notify_successor(self._pid)
        self._supervisor.log("info", f"process {self._pid} has taken over")
        self._release()
        self._supervisor.handed_over()

    def _is_given(self, listener: Listener) -> bool:
        main, _ = self._listeners
        peer = self._peer
        return listener is main or (
            peer is not None and os.fsencode(listener.path) == peer.observers
        )

    # The end of a handover that has failed.

    def _refuse(self, reason: TakeoverRefusal, value: int = 0) -> None:
        """Tell the other supervisor why it gets nothing, and resume."""
        if self._link is not None:
            self._link.say(Kind.REFUSED, reason, value)
        self._fail(f"refused: {reason.name.lower()}")

    def _handle_end(self, fault: str | None) -> None:
        self._fail(fault or "the new daemon has ended")

    def _fail(self, why: str) -> None:
        step, pid = self._step, self._pid
        if step is HandoverPhase.FENCING:
            return
        if step in {
            HandoverPhase.HOLDING,
            HandoverPhase.OFFERED,
            HandoverPhase.STOPPING,
            HandoverPhase.ENDING,
            HandoverPhase.GONE,
        }:
            self._supervisor.log("warning", f"process {pid} does not take over: {why}")
        if step is not HandoverPhase.GONE or self._pidfd is None:
            self._release()
            self._resume(step)
            return
        # Its workers may read the sockets. They end with it.
        self._enter(HandoverPhase.FENCING)
        with suppress(OSError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._reactor.watch(self._pidfd, self._resume_after_end)

    def _resume_after_end(self) -> None:
        self._release()
        self._resume(HandoverPhase.GONE)

    def _resume(self, step: HandoverPhase) -> None:
        """Continue as before the handover; workers whose engine has stopped are replaced."""
        self._step, self._peer = HandoverPhase.IDLE, None
        if step is HandoverPhase.IDLE:
            return
        self._processes.is_handing_over = False
        if step in {HandoverPhase.STOPPING, HandoverPhase.ENDING, HandoverPhase.GONE}:
            self._processes.kill_workers("was stopped for a handover that failed")
        self._processes.send_to_control("resume")

    def _release(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._pidfd is not None:
            if self._step is HandoverPhase.FENCING:
                self._reactor.forget(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _enter(self, step: HandoverPhase) -> None:
        self._step, self._entered_s = step, time.monotonic()


def daemon_needs(settings: DaemonSettings, tools: NativeTools) -> Needs:
    """What a daemon with these settings needs of one that it replaces, or is replaced by."""
    namespace = os.stat("/proc/self/ns/net")
    path = settings.observers_socket if settings.observers is not None else None
    return Needs(
        workers=settings.workers,
        ingress=settings.ingress,
        namespace=(namespace.st_dev, namespace.st_ino),
        records=tools.lease_form,
        layout=tools.page_layout(),
        observers=b"" if path is None else os.fsencode(path),
    )
