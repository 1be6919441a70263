"""Memory that processes share: memfds of a fixed size, and the same read-only."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager


def fixed_size_memfd(size: int, name: str) -> int:
    """Return a descriptor of a zeroed, writable memfd whose size is sealed.

    A process that gets the descriptor can thus leave no more than these bytes to the next one. Only
    its owner may open it again: a memfd is made with all rights for everyone (memfd_create(2)), so
    that who gets it read-only could make it writable through /proc.

    Args:
        size: the size in bytes.
        name: shown in /proc; nothing depends on it.
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        os.fchmod(descriptor, 0o600)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def reopen_read_only(descriptors: Iterable[int]) -> Iterator[list[int]]:
    """Open memfds again, read-only, so that they cannot be mapped writable either.

    The new descriptors are closed at the end of the block.

    Args:
        descriptors: memfds with any access mode.

    Raises:
        OSError: /proc is missing, or no descriptor is left.
    """
    with ExitStack() as stack:
        opened: list[int] = []
        for descriptor in descriptors:
            path = f"/proc/self/fd/{descriptor}"
            opened.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            stack.callback(os.close, opened[-1])
        yield opened
