"""Command lines of the supervisor and its children.

Owns the arguments that each process gets at its start.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ... import _native
from ..settings import DaemonSettings

# An empty package `mcr` with the real package's path: a worker imports the native module, which
# imports the exceptions, and no other code that could access files or programs. A service manager
# sends SIGTERM to all processes of the daemon; a worker ignores it and exits after control has
# reported.
_BOOT = """\
import signal, sys, types
for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2:
    signal.signal(number, signal.SIG_IGN)
sys.modules["mcr"] = types.ModuleType("mcr")
sys.modules["mcr"].__path__ = [sys.argv[1]]
from mcr import _native
sys.exit(_native.run_worker(sys.argv[2]))
"""


# Neither the environment nor the working directory decides where code is imported from. Unlike -I,
# this finds a package that was installed for one user only.
_ISOLATION_FLAGS = ("-E", "-P")


@dataclass(frozen=True, slots=True)
class WorkerDescriptors:
    """The descriptors that a worker inherits."""

    supervisor_channel: int
    broker: int
    page: int


@dataclass(frozen=True, slots=True)
class ControlDescriptors:
    """The descriptors that control inherits."""

    supervisor_channel: int
    listener: int
    numbers: int
    """Memory for the number of the last event of each kind."""
    pages: Sequence[int]
    """The workers' pages of counters in the order of their numbers, open for reading only."""
    observers: int | None = None
    """The listener of those who may only observe."""

    @property
    def all(self) -> list[int]:
        """The descriptors that control inherits."""
        own = [self.supervisor_channel, self.listener, self.numbers, *self.pages]
        return own if self.observers is None else [*own, self.observers]


def worker_command(
    settings: DaemonSettings, number: int, descriptors: WorkerDescriptors
) -> list[str]:
    """Return the command that starts a worker."""
    arguments = {
        "number": number,
        "workers": settings.workers,
        "cpu": settings.cpus[number] if settings.cpus else None,
        "buffer_bytes": settings.buffer_bytes,
        "verify_checksums": settings.verify_checksums,
        "flows": settings.flows,
        "latency": settings.latency,
        "ingress": settings.ingress,
        "egress": settings.egress,
        "offload": settings.offload,
        **_process_identity(settings),
        "supervisor_channel": descriptors.supervisor_channel,
        "broker": descriptors.broker,
        "page": descriptors.page,
    }
    package = str(Path(str(_native.__file__)).parent)
    return [sys.executable, "-I", "-S", "-c", _BOOT, package, json.dumps(arguments)]


def control_command(
    settings: DaemonSettings, socket_gid: int, path: Path, descriptors: ControlDescriptors
) -> list[str]:
    """Return the command that starts control.

    Args:
        settings: the user's choices.
        socket_gid: the group whose members may use the daemon.
        path: the absolute path of the socket.
        descriptors: the inherited descriptors.
    """
    arguments = {
        **_process_identity(settings),
        "supervisor_channel": descriptors.supervisor_channel,
        "listener": descriptors.listener,
        "numbers": descriptors.numbers,
        "pages": list(descriptors.pages),
        "socket": str(path),
        "observers": None
        if descriptors.observers is None
        else {
            "listener": descriptors.observers,
            "socket": str(settings.observers_socket),
            "gid": settings.observers,
        },
        "starter_uid": os.getuid(),
        "socket_gid": socket_gid,
        "state": None if settings.state is None else str(settings.state),
        "config": None if settings.config is None else str(settings.config),
        "keep_going": settings.keep_going,
        "options": settings.options,
        "workers": settings.workers,
        "ingress": settings.ingress,
        "hosts": settings.hosts,
        "log_level": settings.log_level,
        "log_format": settings.log_format,
        "log_stats": settings.log_stats,
        "flows": settings.flows,
        "offload": settings.offload,
        "expect": settings.expect,
    }
    return [sys.executable, *_ISOLATION_FLAGS, "-m", "mcr.daemon.control", json.dumps(arguments)]


def supervisor_command(settings: DaemonSettings) -> list[str]:
    """Return the command that runs the supervisor, without the command-line libraries."""
    return [sys.executable, *_ISOLATION_FLAGS, "-m", "mcr.daemon.supervisor", settings.to_text()]


def _process_identity(settings: DaemonSettings) -> dict[str, int | None]:
    """The parent, user and group of a child; None keeps the user and drops only privileges."""
    other = settings.account is not None and settings.account.uid != os.geteuid()
    account = settings.account if other else None
    return {
        "uid": account.uid if account else None,
        "gid": account.gid if account else None,
        "supervisor": os.getpid(),
    }
