"""The state file: the kept rule set on disk, for the next start.

Owns that the file is always whole, the old one or the new one, whatever ends the machine in
between. Its content is control's alone: the supervisor copies it and does not read it.
"""

import os
from contextlib import suppress
from pathlib import Path

_COPY_BYTES = 1 << 20


def save(descriptor: int, size: int, path: Path) -> None:
    """Write sealed memory to a file in one step: a new file, synced, renamed over the old one.

    Blocks for as long as the disk takes. The file gets mode 0600, since rules may name hosts that
    are nobody's business.

    Args:
        descriptor: the memory.
        size: how many bytes it has.
        path: the file; its directory must allow new files.

    Raises:
        OSError: the disk is full or failing, or the directory is not writable. The file is as
            before then, and no other is left beside it.
    """
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _replace(descriptor, size, f".{path.name}.new", path.name, directory)
        os.fsync(directory)  # Else the name may still lead to the old file after a power cut.
    finally:
        os.close(directory)


def _replace(descriptor: int, size: int, temporary: str, name: str, directory: int) -> None:
    # Of a start that was cut off; O_EXCL below follows no link that somebody else put there.
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    new = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        try:
            _copy(descriptor, size, new)
            os.fsync(new)
        finally:
            os.close(new)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise


def _copy(source: int, size: int, target: int) -> None:
    # By position: whoever else has the memory has the same file offset.
    at = 0
    while at < size:
        chunk = os.pread(source, min(_COPY_BYTES, size - at), at)
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(target, rest) :]
        at += len(chunk)
