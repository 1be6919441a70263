"""Sealed memfds: data that control and the supervisor pass to each other.

The seals (fcntl(2), F_ADD_SEALS) guarantee that the content never changes, and that no process can
truncate it while another one reads. The supervisor does not parse the content.
"""

import errno
import fcntl
import os
import stat
from pathlib import Path

LIMIT_BYTES = 64 << 20
"""The limit for a rule set, state file or configuration: 10 000 rules take about 5 MiB."""
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
"""The seals that `check_sealed` requires."""


class SealedMemfdError(Exception):
    """The descriptor is not acceptable; the text is a phrase that says why."""


def check_sealed(descriptor: int) -> int:
    """Check that a descriptor is a sealed memfd of at most 64 MiB; return its size in bytes.

    Checks the seals before any other call on the descriptor. Only memory has seals, so no other
    process can make this block, as it could with a file on a slow file system.

    Raises:
        SealedMemfdError: the descriptor is not a sealed memfd, or is larger than 64 MiB.
    """
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        raise SealedMemfdError(f"not a sealable memfd: {error.strerror}") from error
    if seals & SEALS != SEALS:
        raise SealedMemfdError("the memfd is not sealed against writing, shrinking and growing")
    size = os.fstat(descriptor).st_size
    if size > LIMIT_BYTES:
        raise SealedMemfdError(f"{size} bytes; the limit is {LIMIT_BYTES}")
    return size


def sealed_memfd(content: bytes, name: str) -> int:
    """Return a descriptor of a sealed memfd with this content; the caller owns it.

    Args:
        content: at most 64 MiB.
        name: shown in /proc; nothing depends on it.
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


def read_bounded(path: Path) -> bytes:
    """Read a file of at most 64 MiB; never blocks on a pipe or device.

    Raises:
        OSError: the file cannot be read; EFBIG: it is larger; EINVAL: it is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        content = file.read(LIMIT_BYTES + 1)
    if len(content) > LIMIT_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {LIMIT_BYTES} bytes")
    return content
