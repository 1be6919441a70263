"""The Unix socket where clients reach the daemon: made safely, removed at the end.

Owns the path: that one living daemon serves it, whoever else starts at the same time, and that
nothing which a dead one left stops the next. Accepts nobody: control does.
"""

import errno
import fcntl
import os
import socket
import stat
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ...protocol.peercred import peer_credentials
from .errors import StartError

_MODE = 0o660
_PATH_BYTES = 107  # of sockaddr_un (unix(7)), without the NUL
_BACKLOG = 128
_ENDING_S = 2.0  # how long the control of a supervisor that was killed may take to end
_PAUSE_S = 0.02


class Listener:
    """A listening socket at a path, and the lock file beside it."""

    def __init__(self, path: Path, group: int, private: bool) -> None:
        """Make the directory, the lock and the socket.

        Args:
            path: where; absolute.
            group: whose members may connect, beside root and the owner.
            private: a directory that is made is for this user alone (mode 0700, else 0755).

        Raises:
            StartError: a living daemon serves the path, or it cannot be had.
        """
        if len(os.fsencode(path)) > _PATH_BYTES:
            raise StartError(f"{path} is longer than the {_PATH_BYTES} bytes that a socket has")
        self.path = path
        with ExitStack() as undo:
            try:
                _make_directory(path.parent, 0o700 if private else 0o755)
                self._lock = undo.enter_context(_Lock(path))
                _remove_stale(path)
                self.socket = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                self._bind(group)
            except OSError as error:
                raise StartError(f"cannot listen at {path}: {error.strerror}") from error
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the socket, if it is still this one, and then the lock."""
        with suppress(OSError):
            if _identity(self.path) == self._made:
                self.path.unlink()
        self._undo.close()

    def _bind(self, group: int) -> None:
        # The mode comes with the name: there is no moment in which others could connect.
        before = os.umask(0o777 & ~_MODE)
        try:
            self.socket.bind(os.fspath(self.path))
        finally:
            os.umask(before)
        self._made = _identity(self.path)
        try:
            os.chown(self.path, -1, group, follow_symlinks=False)
            self.socket.listen(_BACKLOG)
            self.socket.setblocking(False)
        except OSError:
            self.path.unlink()
            raise


class _Lock:
    """A file with the daemon's process id, locked while the daemon lives (flock(2)).

    The kernel takes the lock away with the process, so that a file that was left stops nobody.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}.lock")
        self._descriptor = self._take(path)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)

    def _take(self, served: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        while True:
            descriptor = os.open(self._path, flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A daemon that ended meanwhile has removed the file that was opened here.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), os.lstat(self._path)):
                        return descriptor
            except BlockingIOError:
                owner = os.pread(descriptor, 16, 0).decode("ascii", "replace").strip()
                os.close(descriptor)
                raise StartError(_served(served, owner)) from None
            except OSError:
                os.close(descriptor)
                raise
            os.close(descriptor)


def _make_directory(directory: Path, mode: int) -> None:
    """Make the last directory of the path, and see that nobody else can swap what is in it."""
    with suppress(FileExistsError):
        directory.mkdir(mode)
    status = directory.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise StartError(f"the directory {directory} belongs to another user (uid {status.st_uid})")
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise StartError(f"the directory {directory} is writable by everyone")


def _remove_stale(path: Path) -> None:
    """Remove the socket of a daemon that died; called with the lock held.

    A supervisor that was killed may have left control for the moment until the kernel has ended
    it too: its socket still answers, but in the name of a process that is no more.
    """
    deadline_s = time.monotonic() + _ENDING_S
    while (answer := _who_answers(path)) is not None:
        if os.path.exists(f"/proc/{answer}") or time.monotonic() > deadline_s:
            raise StartError(_served(path, str(answer)))
        time.sleep(_PAUSE_S)
    with suppress(FileNotFoundError):
        path.unlink()


def _who_answers(path: Path) -> int | None:
    """The process that listens there; None where nobody does."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StartError(f"{path} exists and is no socket; choose another path")
    except FileNotFoundError:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        visitor.setblocking(False)
        try:
            visitor.connect(os.fspath(path))
        except OSError as error:
            if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
                return None
            if error.errno == errno.EAGAIN:  # so busy that its queue is full
                raise StartError(_served(path, "")) from None
            raise
        return peer_credentials(visitor).pid


def _served(path: Path, pid: str) -> str:
    who = f"a daemon with pid {pid}" if pid else "another daemon"
    return f"{who} serves {path}; stop it, or choose another path with --socket"


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino
