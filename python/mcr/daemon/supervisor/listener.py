"""The Unix socket for clients: created safely, removed at the end.

At most one running daemon serves a path, even if several start at the same time, and the left-overs
of a dead one do not prevent the next start. Control accepts the connections.
"""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ...protocol.peercred import peer_credentials
from .errors import StartError

_MODE = 0o660
_PATH_BYTES = 107  # of sockaddr_un (unix(7)), without the NUL
_BACKLOG = 128
_CONTROL_EXIT_S = 2.0  # within this time control exits after its supervisor was killed
_POLL_S = 0.02


class Listener:
    """A listening socket at a path, and the lock file beside it."""

    def __init__(self, path: Path, group: int, private: bool, option: str = "--socket") -> None:
        """Create the directory, the lock file and the socket.

        Args:
            path: the absolute path of the socket.
            group: the group whose members may connect, beside root and the owner.
            private: whether a created directory has mode 0700, for this user alone; else 0755.
            option: the option that chooses the path, for messages.

        Raises:
            StartError: another daemon serves the path, or it cannot be used.
        """
        if len(os.fsencode(path)) > _PATH_BYTES:
            raise StartError(
                f"{path} is longer than the {_PATH_BYTES} bytes of a Unix socket address; choose"
                f" another path with {option}"
            )
        self.path = path
        self._is_mine = True
        with ExitStack() as undo:
            try:
                _create_directory(path.parent, 0o700 if private else 0o755, option)
                self._lock = undo.enter_context(_Lock(path, option))
                _remove_stale(path, option)
                self.socket = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                self._bind(group)
            except OSError as error:
                raise StartError(_obstacle(path, error, option)) from error
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        """Return this listener."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the socket, if the path still refers to this one, and then the lock.

        What another process owns, before it was taken over or since, stays.
        """
        with suppress(OSError):
            if self._is_mine and inode_of(self.path) == self._bound_inode:
                self.path.unlink()
        self._undo.close()

    @property
    def descriptors(self) -> tuple[int, int]:
        """Those of the socket and of the lock, for the process that takes them over."""
        return self.socket.fileno(), self._lock.descriptor

    def adopt(self, path: Path, listening: socket.socket, lock: int) -> None:
        """Use a socket and a lock that another process owns."""
        self.path, self.socket, self._is_mine = path, listening, False
        with ExitStack() as undo:
            undo.enter_context(listening)
            self._lock = undo.enter_context(_Lock(path, inherited=lock))
            self._bound_inode = inode_of(path)
            self._undo = undo.pop_all()

    def own(self, group: int) -> None:
        """Own an adopted socket from now on, for members of this group."""
        self._is_mine = True
        self._lock.own()
        with suppress(OSError):
            os.chown(self.path, -1, group, follow_symlinks=False)

    def disown(self) -> None:
        """Leave the socket and the lock to another process, which has taken them over."""
        self._is_mine = False
        self._lock.disown()

    def _bind(self, group: int) -> None:
        bind_socket(self.socket, self.path, _MODE)
        self._bound_inode = inode_of(self.path)
        try:
            with _member_of(group):
                os.chown(self.path, -1, group, follow_symlinks=False)
            self.socket.listen(_BACKLOG)
            self.socket.setblocking(False)
        except OSError:
            self.path.unlink()
            raise


def bind_socket(unbound: socket.socket, path: Path, mode: int) -> None:
    """Bind a Unix socket to a path, so that at no time others can connect than by this mode."""
    previous_umask = os.umask(0o777 & ~mode)
    try:
        unbound.bind(os.fspath(path))
    finally:
        os.umask(previous_umask)


def inode_of(path: Path) -> tuple[int, int]:
    """The device and the number of a file; while it exists, no other one has both."""
    status = path.lstat()
    return status.st_dev, status.st_ino


@contextmanager
def _member_of(group: int) -> Iterator[None]:
    """Within the block, belong to the group, if the kernel permits that.

    Without CAP_CHOWN root may give a file only to groups that it belongs to (chown(2)).
    """
    own = os.getegid()
    with suppress(PermissionError):
        os.setegid(group)
    try:
        yield
    finally:
        os.setegid(own)


class _Lock:
    """A file with the daemon's process id, locked while the daemon runs (flock(2)).

    The kernel releases the lock when the process ends, so a left-over file does not block a start.
    """

    def __init__(self, path: Path, option: str = "", inherited: int | None = None) -> None:
        self._path = path.with_name(f"{path.name}.lock")
        self._is_mine = False
        if inherited is not None:  # locked by the process that still owns it
            self.descriptor = inherited
            return
        self.descriptor = self._acquire(path, option)
        self.own()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            if self._is_mine:
                self._path.unlink()
        os.close(self.descriptor)

    def own(self) -> None:
        """Write that this process has the lock."""
        self._is_mine = True
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)

    def disown(self) -> None:
        """Leave the file to another process."""
        self._is_mine = False

    def _acquire(self, socket_path: Path, option: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        while True:
            descriptor = os.open(self._path, flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A daemon that exits meanwhile may have removed the file that was opened here.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), os.lstat(self._path)):
                        return descriptor
            except BlockingIOError:
                owner = os.pread(descriptor, 16, 0).decode("ascii", "replace").strip()
                os.close(descriptor)
                raise StartError(_in_use(socket_path, owner, option)) from None
            except OSError:
                os.close(descriptor)
                raise
            os.close(descriptor)


def _obstacle(path: Path, error: OSError, option: str) -> str:
    """Why the socket cannot be created, and what to do."""
    text = f"cannot listen at {path}"
    above = path.parent.parent
    if isinstance(error, FileNotFoundError) and not above.is_dir():
        return f"{text}: there is no directory {above}; make it, or choose a path with {option}"
    if isinstance(error, PermissionError):
        text += ": this user may not create it"
    else:
        text += f": {error.strerror}"
    return f"{text}; choose another path with {option}"


def _create_directory(directory: Path, mode: int, option: str) -> None:
    """Create the directory if it is missing; check that no other user can replace its files."""
    with suppress(FileExistsError):
        directory.mkdir(mode)
    status = directory.stat()
    fault = ""
    if status.st_uid not in (0, os.geteuid()):
        fault = f"belongs to another user (uid {status.st_uid})"
    elif status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        fault = "is writable by everyone"
    if fault:
        raise StartError(f"the directory {directory} {fault}; choose another path with {option}")


def _remove_stale(path: Path, option: str) -> None:
    """Remove the socket of a dead daemon; the caller holds the lock.

    After a supervisor was killed, its control process lives until the kernel has ended it too. The
    socket still accepts connections then, but its peer credentials name a process that is gone.
    """
    deadline_s = time.monotonic() + _CONTROL_EXIT_S
    while (pid := _listening_pid(path, option)) is not None:
        if _exists(pid) or time.monotonic() > deadline_s:
            raise StartError(_in_use(path, str(pid), option))
        time.sleep(_POLL_S)
    with suppress(FileNotFoundError):
        path.unlink()


def _exists(pid: int) -> bool:
    """Whether the process exists; /proc may hide it (hidepid, ProtectProc=)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _listening_pid(path: Path, option: str) -> int | None:
    """The id of the process that called listen(2) on the socket; None if nothing listens."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StartError(
                f"{path} exists and is not a socket; choose another path with {option}"
            )
    except FileNotFoundError:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
                return None
            if error.errno == errno.EAGAIN:  # the backlog is full: a daemon listens and is busy
                raise StartError(_in_use(path, "", option)) from None
            raise
        return peer_credentials(probe).pid


def _in_use(path: Path, pid: str, option: str) -> str:
    server = f"a daemon with pid {pid}" if pid else "another daemon"
    return f"{server} serves {path}; stop it, or choose another path with {option}"
