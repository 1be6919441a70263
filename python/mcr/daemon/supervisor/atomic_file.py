"""The state file: the rule set snapshot on disk, for the next start.

Replaces the file atomically: after a crash or power cut it is either the old or the new one. The
supervisor copies the content without parsing it; only control does that.
"""

import os
from contextlib import suppress
from pathlib import Path

_COPY_BYTES = 1 << 20


def save(descriptor: int, size: int, path: Path) -> None:
    """Write sealed memory to a file atomically: write a new file, sync it, rename it over the old.

    Blocks for as long as the disk takes. The file has mode 0600, since the host names in rules may
    be confidential.

    Args:
        descriptor: the memory.
        size: its size in bytes.
        path: the file; its directory must be writable.

    Raises:
        OSError: the disk is full or failing, or the directory is not writable. The old file is
            unchanged, and no temporary file is left behind.
    """
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _replace(descriptor, size, f".{path.name}.new", path.name, directory)
        os.fsync(directory)  # Without it the name may refer to the old file after a power cut.
    finally:
        os.close(directory)


def _replace(descriptor: int, size: int, temporary: str, name: str, directory: int) -> None:
    # A left-over of a process that was killed. O_EXCL below follows no symbolic link.
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
    # pread: duplicates of the descriptor in other processes share the file offset.
    offset = 0
    while offset < size:
        chunk = os.pread(source, min(_COPY_BYTES, size - offset), offset)
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(target, rest) :]
        offset += len(chunk)
