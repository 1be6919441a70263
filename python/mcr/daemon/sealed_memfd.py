"""Bytes that the supervisor keeps for control and never reads: sealed memory, and how to check it.

The seals (fcntl(2), F_ADD_SEALS) make sure that what was handed over stays as it is, and that
nobody can shorten it under a reader. Knows neither what the bytes mean nor where they go.
"""

import errno
import fcntl
import os
import stat
from pathlib import Path

LIMIT_BYTES = 64 << 20
"""The largest rule set, state file or configuration: 10 000 rules take about 5 MiB."""
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
"""What must be sealed before bytes are kept."""


class SealedMemfdError(Exception):
    """Bytes cannot be kept; the text is one sentence."""


def check_sealed(descriptor: int) -> int:
    """Return the size in bytes of sealed memory that may be kept.

    Nothing is asked of a file before its seals were seen: only memory has any, so that no other
    process can make a look at it wait.

    Raises:
        SealedMemfdError: no sealed memory, or more than 64 MiB.
    """
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        raise SealedMemfdError(f"no memory that can be sealed: {error.strerror}") from error
    if seals & SEALS != SEALS:
        raise SealedMemfdError("memory that is not sealed against writing, shrinking and growing")
    size = os.fstat(descriptor).st_size
    if size > LIMIT_BYTES:
        raise SealedMemfdError(f"{size} bytes; it is at most {LIMIT_BYTES}")
    return size


def sealed_memfd(content: bytes, name: str) -> int:
    """Return a descriptor of sealed memory with this content, to be closed by the caller.

    Args:
        content: at most 64 MiB.
        name: what /proc shows of it; nothing else depends on it.
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def fixed_size_memfd(size: int, name: str) -> int:
    """Return a descriptor of zeroed memory that can be written to, but never grow or shrink.

    So that whoever is given it can leave nothing behind but these bytes.

    Args:
        size: in bytes.
        name: what /proc shows of it; nothing else depends on it.
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(
        descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    )
    return descriptor


def read_bounded(path: Path) -> bytes:
    """Read a file of at most 64 MiB; no pipe or device can make this wait.

    Raises:
        OSError: it cannot be read; EFBIG: it is larger, EINVAL: it is no plain file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file")
        content = file.read(LIMIT_BYTES + 1)
    if len(content) > LIMIT_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {LIMIT_BYTES} bytes")
    return content
