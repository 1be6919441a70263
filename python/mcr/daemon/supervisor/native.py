"""The native functions that the supervisor calls, as one value that tests can replace.

Owns nothing; tests give others in their place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ... import _native
from ..settings import DaemonSettings
from .argv import ControlEnds, WorkerEnds, control_command, worker_command


class Broker(Protocol):
    """Opens sockets for workers, and keeps them for their successors."""

    def serve(self, worker: int, fd: int) -> bool:
        """Answer all that waits on a worker's socket; False when the worker has closed it.

        Raises:
            McrError: the worker sent what it never may.
        """

    @property
    def deletions(self) -> int:
        """A descriptor that is readable when interfaces were deleted."""

    def follow_deletions(self) -> None:
        """Give up what stands on interfaces that are gone."""

    def forget(self) -> None:
        """Close everything that is kept."""


@dataclass(frozen=True, slots=True)
class NativeTools:
    """Functions, so that each can be another in a test."""

    shrink: Callable[[bool], None]
    """Give up every right of this process that the broker and new children do not need, unless
    True also that to any file; call it before there are threads."""
    make_page: Callable[[], int]
    """Make a page of counters; the descriptor is the caller's."""
    make_broker: Callable[[DaemonSettings], Broker]
    """Make a broker for the workers that were asked for."""
    worker_command: Callable[[DaemonSettings, int, WorkerEnds], list[str]] = worker_command
    control_command: Callable[[DaemonSettings, int, Path, ControlEnds], list[str]] = control_command


def native_tools() -> NativeTools:
    """Return those of the installed package."""
    return NativeTools(
        shrink=_native.shrink_supervisor,
        make_page=_native.make_page,
        make_broker=lambda setup: _native.Broker(setup.workers, setup.ingress, setup.buffer_bytes),
    )
