"""Text files that are replaced as a whole: after a failure a file is the old one or the new one."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def replace_text(path: Path, text: str, *, mode: int = 0o600, keep: bool = True) -> None:
    """Write a file, sync it and rename it over the old one.

    Args:
        path: the file; its directory must be writable.
        text: the whole content.
        mode: the permissions of a file that did not exist.
        keep: keep the mode and the owner of the old file, and a symbolic link, whose target is
            replaced. Without, the new file has `mode` and the owner of this process.

    Raises:
        OSError: the disk is full or failing, or the owner cannot be kept. The old file is
            unchanged, and no temporary file is left behind.
    """
    target = path.resolve() if keep else path
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.write(text)
            new.flush()
            if keep and target.exists():
                _keep_attributes(target.stat(), new.fileno())
            else:
                os.fchmod(new.fileno(), mode)
            os.fsync(new.fileno())
        os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


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


def _keep_attributes(old: os.stat_result, descriptor: int) -> None:
    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, old.st_mode & 0o7777)  # chown clears bits of it
