"""Text files that are written as a whole: after a failure a file is the old one or the new one."""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def replace_text(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Give a file another content; its mode and owner stay, and so does a symbolic link to it.

    Args:
        path: the file; its directory must be writable.
        text: the whole content.
        mode: the permissions of a file that does not exist.

    Raises:
        OSError: the disk is full or failing, or the owner cannot be kept. The old file is
            unchanged, and no temporary file is left behind.
    """

    def keep_attributes(descriptor: int) -> None:
        try:
            old = target.stat()
        except FileNotFoundError:
            os.fchmod(descriptor, mode)
            return
        if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, old.st_mode & 0o7777)  # chown clears bits of it

    target = path.resolve()
    _write(target, text, keep_attributes)


def put_text(path: Path, text: str, *, mode: int) -> None:
    """Put a new file of this process under a name, whatever has that name now, even a link.

    Raises:
        OSError: as `replace_text`.
    """
    _write(path, text, lambda descriptor: os.fchmod(descriptor, mode))


def keep_old(path: Path) -> Path:
    """Give the present content of a file a second name, FILE.old, in place of an older one.

    Raises:
        OSError: the directory is not writable, or its file system has no hard links.
    """
    target = path.resolve()
    old, new = target.with_name(f"{target.name}.old"), target.with_name(f".{target.name}.old")
    new.unlink(missing_ok=True)  # of a process that was killed
    new.hardlink_to(target)
    new.replace(old)
    new.unlink(missing_ok=True)  # where both were one file already, rename(2) does nothing
    return old


def _write(path: Path, text: str, set_attributes: Callable[[int], None]) -> None:
    """Write a new file beside the path, sync it and rename it to that."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.write(text)
            new.flush()
            set_attributes(new.fileno())
            os.fsync(new.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
