"""The privileges of this process: checks before the start, and raised limits.

The native module drops the privileges.
"""

import os
import resource
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ... import _native
from ...capabilities import OFFLOAD_CAPABILITIES, missing_capabilities, missing_text
from ...choices import Ingress, IngressChoice, Offload
from ...errors import RightsError
from ..settings import DaemonSettings

NO_PACKET = (
    "CAP_NET_RAW is missing: the ingress is udp, which sees no VLAN tags and receives only joined"
    " groups; for packet run as root, or grant the capability"
)


def choose_ingress(requested: IngressChoice) -> tuple[Ingress, str | None]:
    """Return the ingress to use, and a notice for the user if there is one.

    Raises:
        RightsError: `packet` was requested, and the kernel refuses AF_PACKET (packet(7)).
    """
    if requested == "udp":
        return "udp", None
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError:
        if requested == "packet":
            raise RightsError("CAP_NET_RAW is missing: run as root, or use --ingress udp") from None
        return "udp", NO_PACKET
    return "packet", None


def choose_offload(requested: Offload) -> tuple[Offload, str | None]:
    """Return whether rules may be relayed in the kernel, and a notice for the user if there is one.

    Raises:
        RightsError: `require` was requested, and a capability is missing (capabilities(7)).
    """
    missing = [] if requested == "off" else missing_capabilities(OFFLOAD_CAPABILITIES)
    if not missing:
        return requested, None
    fault = missing_text(missing)
    if requested == "require":
        raise RightsError(f"{fault}: run as root, grant them, or use --offload off")
    return "off", f"{fault}: offload is off; run as root, or grant them"


def find_unreachable_path(
    settings: DaemonSettings, shrink: Callable[[bool, bool], None]
) -> Path | None:
    """Return a file or directory that root needs but cannot access by its permissions, if any.

    An example is an installation in a home directory without access for others, started with sudo.
    Root needs CAP_DAC_OVERRIDE there (capabilities(7)), which is dropped otherwise. A forked child
    drops it, tries the paths and exits.

    Args:
        settings: the paths that the user named.
        shrink: drops all privileges that the supervisor does not need; see `NativeTools.shrink`.
    """
    if os.geteuid() != 0:
        return None
    required = _required_access(settings)
    child = os.fork()
    if child == 0:
        first_denied = len(required)
        try:
            shrink(False, False)
            denied = (
                index for index, (path, mode) in enumerate(required) if not os.access(path, mode)
            )
            first_denied = next(denied, first_denied)
        finally:
            os._exit(first_denied)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return required[code][0] if 0 <= code < len(required) else None


def _required_access(settings: DaemonSettings) -> list[tuple[Path, int]]:
    """The code that children load and the paths that the user named, with the mode of access(2)."""
    read, write = os.R_OK | os.X_OK, os.W_OK | os.X_OK
    package, library = Path(str(_native.__file__)).parent, Path(os.__file__).parent
    required = [(Path(sys.executable), read), (package, read), (library, read)]
    if settings.config is not None:
        required.append((settings.config, os.R_OK))
    if settings.state is not None:
        required.append((settings.state.parent, write))
    directory = settings.socket.parent
    required.append((directory if directory.exists() else directory.parent, write))
    return required


def raise_descriptor_limit() -> int:
    """Raise the descriptor limit of this process and its children to the maximum; return it.

    Each output has a socket, and the supervisor a duplicate of it (RLIMIT_NOFILE, setrlimit(2)).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (*_highest_descriptor_limit(), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        except (OSError, ValueError):
            continue
        return limit
    return soft


def _highest_descriptor_limit() -> tuple[int, ...]:
    """The kernel's limit, unless a service manager hides it (ProcSubset=)."""
    with suppress(OSError):
        return (int(Path("/proc/sys/fs/nr_open").read_text()),)
    return ()


def fill_standard_descriptors() -> None:
    """Open /dev/null in place of a closed standard input, output or error.

    Otherwise a socket would get one of these numbers, and messages for people would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # open(2) returns the lowest free number: this one, as all lower ones are open.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
