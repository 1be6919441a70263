"""What the process manager calls in the supervisor, and what it may begin with."""

from collections.abc import Sequence
from typing import Protocol

from .managed_process import ManagedProcess


class DaemonLifecycle(Protocol):
    """The methods of `Supervisor` that the processes' messages call."""

    def control_ready(self, rules: int) -> None:
        """Control serves this many rules, for the first time or after its restart."""

    def drain(self) -> None:
        """A client requests shutdown."""

    def control_drained(self) -> None:
        """Control has stopped the workers' engines and reported."""

    def control_told(self, kind: bytes) -> None:
        """Control has done a step of a handover: HELD, STOPPED or CHECKED."""

    def take_exit(self, process: ManagedProcess, cause: str) -> bool:
        """A child has exited; return whether a handover deals with that."""

    def load_configuration(self, patterns: int) -> None:
        """Control requests the configuration anew, with the include patterns in this memory."""

    def control_reloaded(self, number: int) -> None:
        """Control has applied or refused what it was sent with this number, to reload it."""

    def abort_start(self, reason: str) -> None:
        """A child cannot be started at all."""


class InheritedMemory(Protocol):
    """The memory of another daemon."""

    @property
    def numbers(self) -> int:
        """That of the numbers of events."""

    @property
    def pages(self) -> Sequence[int]:
        """The workers' pages of counters; empty if new ones are needed."""
