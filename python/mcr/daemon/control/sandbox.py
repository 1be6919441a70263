"""The sandbox of control, entered once everything it needs is loaded.

Chooses the paths that stay accessible; the native module does the rest.
"""

import asyncio
import encodings.idna
import socket
import sys
from contextlib import suppress
from pathlib import Path

from ... import _native

ALL_HIDDEN = "landlock hides files, TCP, sockets and processes"
"""The result of `enter_sandbox` where the kernel supports everything."""


def enter_sandbox(
    uid: int | None, gid: int | None, supervisor: int, socket_paths: list[str]
) -> str:
    """Switch to the user, drop all capabilities, and restrict files and system calls, for good.

    From then on the kernel kills this process when the supervisor dies.

    Args:
        uid: the user to switch to; None keeps the current one.
        gid: the group to switch to.
        supervisor: the process id of the supervisor.
        socket_paths: the paths of the daemon's sockets, which stay removable.

    Returns:
        How much landlock hides, as a phrase.

    Raises:
        RightsError: the kernel refuses a part of it; control must exit then.
    """
    _load_lazy_modules()
    # Python loads modules from here later. The native module adds the files of the resolver.
    package = Path(str(_native.__file__)).parents[1]
    readable = sorted({sys.prefix, sys.base_prefix, str(package)})
    return _native.confine_control(uid, gid, supervisor, readable, socket_paths)


def _load_lazy_modules() -> None:
    """Load now what Python would load at its first use."""
    assert encodings.idna is not None
    with suppress(OSError):
        socket.getaddrinfo("localhost", None)
    asyncio.new_event_loop().close()
