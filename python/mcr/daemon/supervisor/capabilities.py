"""The rights of this process: checked before anything starts, and used to raise its limits.

Knows no children. Giving rights up is the native module's work.
"""

import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ... import _native
from ...errors import RightsError
from ..settings import DaemonSettings, Ingress

NO_PACKET = (
    "CAP_NET_RAW is missing: the ingress is udp, which sees no VLAN tags and hears nothing that"
    " is not joined; for packet run as root, or grant the capability"
)


def choose_ingress(asked: Literal["auto", "packet", "udp"]) -> tuple[Ingress, str | None]:
    """Return the ingress for what was asked, and what the user should know about it.

    Raises:
        RightsError: `packet` was asked for, and AF_PACKET is refused (packet(7)).
    """
    if asked == "udp":
        return "udp", None
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError:
        if asked == "packet":
            raise RightsError("CAP_NET_RAW is missing: run as root, or use --ingress udp") from None
        return "udp", NO_PACKET
    return "packet", None


def unreachable(setup: DaemonSettings, shrink: Callable[[bool], None]) -> Path | None:
    """Return a file or directory that root needs and cannot reach by permissions alone, if any.

    Such as an installation in a home directory that is closed to others, started with sudo. Root
    reaches it by CAP_DAC_OVERRIDE (capabilities(7)), which is otherwise given up. It is tried by a
    process that gives it up and ends.

    Args:
        setup: the files that were named.
        shrink: gives up all but what is needed.
    """
    if os.geteuid() != 0:
        return None
    needed = _needed(setup)
    child = os.fork()
    if child == 0:
        first = len(needed)
        try:
            shrink(False)
            first = next(
                (at for at, (path, way) in enumerate(needed) if not os.access(path, way)), first
            )
        finally:
            os._exit(first)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return needed[code][0] if 0 <= code < len(needed) else None


def _needed(setup: DaemonSettings) -> list[tuple[Path, int]]:
    """What children are loaded from, and the files that were named, each with the way of access."""
    looked_into = os.R_OK | os.X_OK
    written_in = os.W_OK | os.X_OK
    package, library = Path(str(_native.__file__)).parent, Path(os.__file__).parent
    needed = [(Path(sys.executable), looked_into), (package, looked_into), (library, looked_into)]
    if setup.config is not None:
        needed.append((setup.config, os.R_OK))
    if setup.state is not None:
        needed.append((setup.state.parent, written_in))
    directory = setup.socket.parent
    needed.append((directory if directory.exists() else directory.parent, written_in))
    return needed


def raise_descriptor_limit() -> int:
    """Allow this process and its children as many descriptors as it may; return how many.

    Each output has a socket, and the supervisor a duplicate of it (RLIMIT_NOFILE, setrlimit(2)).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    for wanted, ceiling in ((most, most), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, ceiling))
        except (OSError, ValueError):
            continue
        return wanted
    return soft


def fill_standard_descriptors() -> None:
    """Open /dev/null where standard input, output or error were closed.

    Else a socket would get one of these numbers, and a message for people would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one, as all below are taken.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
