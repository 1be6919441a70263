"""The sandbox of control, entered once everything it needs is loaded.

Owns what it can still reach in the file system afterwards. The rest is the native module's.
"""

import asyncio
import encodings.idna
import socket
import sys
from contextlib import suppress
from pathlib import Path

from ... import _native

ALL_HIDDEN = "landlock hides files, TCP, sockets and processes"
"""What the native module says where the kernel does all that is asked of it."""


def give_up(uid: int | None, gid: int | None, supervisor: int, socket_path: str) -> str:
    """Become the user given, or stay who this is, without any capability and for good.

    The process dies with the supervisor from here on.

    Returns:
        How much the kernel hides of the file system, in a sentence.

    Raises:
        RightsError: the kernel refuses some of it; nothing is served then.
    """
    _load_the_rest()
    # What Python loads later; what the resolver reads, the native module knows.
    package = Path(str(_native.__file__)).parents[1]
    readable = sorted({sys.prefix, sys.base_prefix, str(package)})
    return _native.confine_control(uid, gid, supervisor, readable, [socket_path])


def _load_the_rest() -> None:
    """Let what Python loads at its first use be loaded now."""
    assert encodings.idna is not None
    with suppress(OSError):
        socket.getaddrinfo("localhost", None)
    asyncio.new_event_loop().close()
