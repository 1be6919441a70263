"""Command lines of the supervisor's children.

Owns what they are told at their start. Knows no process.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ... import _native
from ..settings import DaemonSettings

# The package's directory under its name, but without the package: a worker loads the native module,
# which loads the exceptions, and no other code by which it could reach files or programs. A service
# manager sends SIGTERM to all processes of the daemon; a worker ends when control has reported.
_BOOT = """\
import signal, sys, types
for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
    signal.signal(number, signal.SIG_IGN)
sys.modules["mcr"] = types.ModuleType("mcr")
sys.modules["mcr"].__path__ = [sys.argv[1]]
from mcr import _native
sys.exit(_native.run_worker(sys.argv[2]))
"""


# Neither the environment nor the directory of the start says where code comes from. As with -I, but
# a package that was installed for one user only is found.
_UNSWAYED = ("-E", "-P")


@dataclass(frozen=True, slots=True)
class WorkerEnds:
    """The descriptors of a worker."""

    supervisor_channel: int
    broker: int
    page: int


@dataclass(frozen=True, slots=True)
class ControlEnds:
    """The descriptors of control."""

    supervisor_channel: int
    listener: int
    numbers: int
    """Memory for the number of the last event."""


def worker_command(setup: DaemonSettings, number: int, ends: WorkerEnds) -> list[str]:
    """Return the command that starts a worker."""
    told = {
        "number": number,
        "workers": setup.workers,
        "cpu": setup.cpus[number] if setup.cpus else None,
        "buffer_bytes": setup.buffer_bytes,
        "verify_checksums": setup.verify_checksums,
        "ingress": setup.ingress,
        **_identity(setup),
        "supervisor_channel": ends.supervisor_channel,
        "broker": ends.broker,
        "page": ends.page,
    }
    package = str(Path(str(_native.__file__)).parent)
    return [sys.executable, "-I", "-S", "-c", _BOOT, package, json.dumps(told)]


def control_command(
    setup: DaemonSettings, socket_gid: int, path: Path, ends: ControlEnds
) -> list[str]:
    """Return the command that starts control.

    Args:
        setup: what the user asked for.
        socket_gid: the group whose members may talk to the daemon.
        path: the socket, absolute.
        ends: its descriptors.
    """
    told = {
        **_identity(setup),
        "supervisor_channel": ends.supervisor_channel,
        "listener": ends.listener,
        "numbers": ends.numbers,
        "socket": str(path),
        "starter_uid": os.getuid(),
        "socket_gid": socket_gid,
        "state": None if setup.state is None else str(setup.state),
        "workers": setup.workers,
        "ingress": setup.ingress,
        "hosts": setup.hosts,
        "log_level": setup.log_level,
    }
    return [sys.executable, *_UNSWAYED, "-m", "mcr.daemon.control", json.dumps(told)]


def supervisor_command(setup: DaemonSettings) -> list[str]:
    """Return the command that supervises: `mcr serve` without the libraries of a command line."""
    return [sys.executable, *_UNSWAYED, "-m", "mcr.daemon.supervisor", setup.to_text()]


def _identity(setup: DaemonSettings) -> dict[str, int | None]:
    """Whom the child belongs to, and becomes; None to stay the same user without its rights."""
    other = setup.account is not None and setup.account.uid != os.geteuid()
    account = setup.account if other else None
    return {
        "uid": account.uid if account else None,
        "gid": account.gid if account else None,
        "supervisor": os.getpid(),
    }
