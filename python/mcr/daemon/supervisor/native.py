"""The native functions that the supervisor calls, as one value that tests can replace."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ... import _native
from ..settings import DaemonSettings
from .argv import ControlDescriptors, WorkerDescriptors, control_command, worker_command


class Broker(Protocol):
    """Opens sockets for workers, and keeps them for the next incarnation."""

    def serve(self, worker: int, fd: int) -> bool:
        """Answer all pending requests on a worker's socket; False if the worker has closed it.

        Raises:
            McrError: the worker violated the protocol.
        """

    @property
    def deletions(self) -> int:
        """A descriptor that is readable when interfaces were deleted."""

    def follow_deletions(self) -> None:
        """Release the sockets and memberships of deleted interfaces."""

    def leased(self) -> list[tuple[bytes, int]]:
        """The record and the descriptor of each socket, which stay valid until another call."""

    def adopt(self, record: bytes, fd: int) -> None:
        """Take over a socket of another broker; the descriptor remains the caller's.

        Raises:
            McrError: the record has another form, or the kernel refuses.
        """

    def forget(self) -> None:
        """Close all sockets, and detach the relay in the kernel."""


@dataclass(frozen=True, slots=True)
class NativeTools:
    """The native functions, each replaceable in a test."""

    shrink: Callable[[bool, bool], None]
    """Drop every privilege that the broker and new children do not need. The first True keeps
    CAP_DAC_OVERRIDE, the access to any file, the second those for the relay in the kernel. Call it
    while the process has a single thread."""
    make_page: Callable[[], int]
    """Create a page of counters; the caller owns the descriptor."""
    make_broker: Callable[[DaemonSettings], Broker]
    """Create a broker for the workers of the settings."""
    restore_features: Callable[[], list[tuple[str, str]]] = _native.restore_features
    """Turn on features of interfaces that a process of mcr has left off; return those."""
    page_layout: Callable[[], int] = _native.page_layout
    """Return a number that differs between versions whose pages differ."""
    export_counters: Callable[[int], bytes] = _native.export_counters
    """Return what a page has counted, for a version with other pages."""
    import_counters: Callable[[int, bytes], None] = _native.import_counters
    """Write what another version has counted into a new page."""
    lease_form: int = _native.LEASE_FORM
    """The version of the form of the broker's records."""
    worker_command: Callable[[DaemonSettings, int, WorkerDescriptors], list[str]] = worker_command
    control_command: Callable[[DaemonSettings, int, Path, ControlDescriptors], list[str]] = (
        control_command
    )


def native_tools() -> NativeTools:
    """Return the functions of the installed package."""
    return NativeTools(
        shrink=_native.shrink_supervisor,
        make_page=_native.make_page,
        make_broker=lambda settings: _native.Broker(
            settings.workers,
            settings.ingress,
            settings.buffer_bytes,
            xdp_links=settings.egress != "socket",
            offload=settings.offload != "off" and settings.workers == 1,
        ),
    )
