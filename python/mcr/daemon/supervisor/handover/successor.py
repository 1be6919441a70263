"""The new supervisor's side of a handover: starts its processes, and takes over when they wait.

Until it has committed, whatever fails ends this daemon, and the old one resumes. If the old one
dies meanwhile, this one goes on without it.
"""

import enum
import os
import time
from contextlib import suppress
from typing import Protocol

from ...sealed_memfd import SealedMemfdError, check_sealed
from ..native import NativeTools
from ..process_manager import ProcessManager
from ..reactor import Reactor
from .form import FormError, Kind, refusal_text
from .inheritance import Inheritance, is_over
from .link import Incoming


class Stage(enum.Enum):
    """How far the takeover is."""

    STARTING = enum.auto()
    """Control and workers start."""
    WAITING = enum.auto()
    """They wait for the end of the old workers."""
    GOING = enum.auto()
    """The workers get their sockets and rules."""
    DONE = enum.auto()


_LIMITS_S = {Stage.STARTING: 25.0, Stage.WAITING: 20.0, Stage.GOING: 20.0}
"""How long a stage may take; workers that wait for 30 s count as hung."""
_SHOWN_AFTER_S = 1.0  # a user at a terminal wants to know then that something happens
_END_S = 2.0  # for a process that has closed its connection to end


class TakesOver(Protocol):
    """The methods of `Supervisor` that a takeover calls."""

    def abort_start(self, reason: str) -> None:
        """End this daemon with the reason."""

    def show(self, text: str) -> None:
        """Tell a user who waits at a terminal."""


class Successor:
    """The takeover from another supervisor."""

    def __init__(
        self,
        inheritance: Inheritance,
        tools: NativeTools,
        reactor: Reactor,
        processes: ProcessManager,
        supervisor: TakesOver,
    ) -> None:
        """Watch the connection, and have the processes wait once they have started."""
        self._inheritance, self._tools = inheritance, tools
        self._reactor, self._processes, self._supervisor = reactor, processes, supervisor
        self._stage = Stage.STARTING
        self._began_s = self._entered_s = time.monotonic()
        self._is_shown = False
        self._waiting: set[int] = set()
        self._is_checked = False
        self._is_alone = False
        """Whether the old supervisor is dead."""
        self._ends_s: float | None = None
        """When a connection that was closed counts as refusal."""
        try:
            self._pidfd: int | None = os.pidfd_open(inheritance.pid)
        except OSError:
            self._pidfd = None
        inheritance.link.watch(reactor, self._receive, self._handle_end)
        processes.desk.close(self._note_waiting)

    @property
    def is_active(self) -> bool:
        """Whether the old daemon is still responsible."""
        return self._stage is not Stage.DONE

    @property
    def pid(self) -> int:
        """The supervisor that is replaced."""
        return self._inheritance.pid

    def control_checked(self) -> None:
        """Control has read the rules."""
        self._is_checked = True
        self._check_standby()

    def commit(self) -> None:
        """All workers relay: this daemon is responsible from now on."""
        self._stage = Stage.DONE
        if not self._is_alone:
            self._inheritance.link.say(Kind.COMMIT)

    def check_time(self, now_s: float) -> None:
        """Say that a takeover lasts, and abort one that takes too long."""
        if self._ends_s is not None and is_over(self._pidfd):
            self._go_alone()
        elif self._ends_s is not None and now_s > self._ends_s:
            self.abort("it has closed the connection")
        if self.is_active and not self._is_shown and now_s - self._began_s > _SHOWN_AFTER_S:
            self._is_shown = True
            self._supervisor.show(f"taking over from process {self.pid}")
        limit_s = _LIMITS_S.get(self._stage)
        if limit_s is not None and now_s - self._entered_s > limit_s:
            is_starting = self._stage is not Stage.WAITING
            what = "the new processes were" if is_starting else "the old workers were"
            self.abort(f"{what} not ready after {limit_s:g} s")

    def close(self) -> None:
        """Close the connection."""
        self._inheritance.link.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _receive(self, message: Incoming) -> None:
        form = message.form
        if form.kind is Kind.REFUSED:
            self.abort(refusal_text(form.number, form.values[0]))
        elif form.kind is Kind.COUNTS and self._stage is Stage.WAITING:
            self._import(form.number, message.take(1)[0])
        elif form.kind is Kind.GO and self._stage is Stage.WAITING:
            self._go()
        else:
            raise FormError(f"{form.kind.name} at the wrong time")

    def _handle_end(self, fault: str | None) -> None:
        if self._stage is Stage.DONE:
            return
        if fault is not None:
            self.abort(f"it {fault}")
        elif is_over(self._pidfd):
            self._go_alone()
        else:  # it may be about to end
            self._ends_s = time.monotonic() + _END_S

    def _note_waiting(self, number: int) -> None:
        self._waiting.add(number)
        self._check_standby()

    def _check_standby(self) -> None:
        is_complete = self._is_checked and len(self._waiting) == len(self._processes.workers)
        if self._stage is not Stage.STARTING or not is_complete:
            return
        self._enter(Stage.WAITING)
        if self._is_alone:
            self._go()
        elif self._inheritance.link.is_open:
            self._inheritance.link.say(Kind.STANDBY)

    def _go_alone(self) -> None:
        """Go on without the old daemon, whose processes have died with it."""
        self._is_alone, self._ends_s = True, None
        if self._stage is Stage.WAITING:
            self._go()

    def _go(self) -> None:
        self._enter(Stage.GOING)
        self._processes.begin_serving()

    def _import(self, number: int, memory: int) -> None:
        try:
            size = check_sealed(memory)
            worker = self._processes.workers[number]
            self._tools.import_counters(worker.page, os.pread(memory, size, 0))
        except (SealedMemfdError, IndexError, OSError) as error:
            raise FormError(f"counters that cannot be read: {error}") from error
        finally:
            with suppress(OSError):
                os.close(memory)

    def abort(self, reason: str) -> None:
        """End this daemon; the old one resumes once this process is gone."""
        if self._stage is not Stage.DONE:
            self._supervisor.abort_start(f"cannot take over from process {self.pid}: {reason}")

    def _enter(self, stage: Stage) -> None:
        self._stage, self._entered_s = stage, time.monotonic()
