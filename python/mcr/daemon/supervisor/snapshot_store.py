"""The rule set snapshot that the supervisor keeps for the next control process, and its state file.

Owns the newest snapshot and the order of the answers to control. Only control parses the content.
"""

import os
from collections.abc import Callable
from pathlib import Path

from ..sealed_memfd import SealedMemfdError, check_sealed, read_bounded, sealed_memfd
from .atomic_file import save
from .disk_thread import DiskThread

_NAME = "mcr-rules"
_PENDING_LIMIT = 1000  # control sends one snapshot at a time; this many is a flood
OnSaved = Callable[[str | None], None]
"""Called once a snapshot is kept, with the error of writing the state file, if any."""


class SnapshotStore:
    """The newest snapshot."""

    def __init__(self, disk: DiskThread, path: Path | None) -> None:
        """Begin with the content of the state file, if it exists.

        Args:
            disk: the thread that writes the file.
            path: the state file; None to keep rules in memory only.

        Raises:
            OSError: the file exists and cannot be read, or is larger than 64 MiB.
        """
        self._disk = disk
        self._path = path
        self._memory: int | None = None
        self._pending: list[OnSaved] = []
        self._is_saving = False
        self.in_use = False
        """Whether the snapshot came from control, so that workers relay by it; else it is the
        content of the state file."""
        if path is not None and path.exists():
            self._memory = sealed_memfd(read_bounded(path), _NAME)

    def adopt(self, memory: int) -> None:
        """Begin with the snapshot of another daemon, by which workers relay; owns the descriptor.

        Raises:
            SealedMemfdError: it is no snapshot.
        """
        check_sealed(memory)
        if self._memory is not None:
            os.close(self._memory)
        self._memory, self.in_use = memory, True

    def duplicate(self) -> int | None:
        """Return a new descriptor of the snapshot, at offset 0; the caller owns it."""
        if self._memory is None:
            return None
        os.lseek(self._memory, 0, os.SEEK_SET)
        return os.dup(self._memory)

    def keep(self, memory: int, answer: OnSaved) -> None:
        """Replace the snapshot; takes ownership of the descriptor.

        If changes come faster than the disk writes, only the newest snapshot is written; its result
        answers for all.

        Raises:
            SealedMemfdError: the memory is not sealed or too large, or too many snapshots wait for
                the disk. The previous snapshot stays.
        """
        try:
            check_sealed(memory)
            if len(self._pending) >= _PENDING_LIMIT:
                raise SealedMemfdError(f"{_PENDING_LIMIT} others wait for the disk")
        except SealedMemfdError:
            os.close(memory)
            raise
        if self._memory is not None:
            os.close(self._memory)
        self._memory, self.in_use = memory, True
        if self._path is None:
            answer(None)
            return
        self._pending.append(answer)
        if not self._is_saving:
            self._start_saving(memory, self._path)

    def _start_saving(self, memory: int, path: Path) -> None:
        self._is_saving = True
        answers, self._pending = self._pending, []
        try:
            duplicate = os.dup(memory)  # a newer snapshot may close `memory` during the write
        except OSError as error:
            self._finish_saving(_save_error(path, error.strerror), answers, path)
            return

        def job() -> Callable[[], None]:
            fault = _write_state_file(duplicate, path)
            return lambda: self._finish_saving(fault, answers, path)

        self._disk.run(job)

    def _finish_saving(self, fault: str | None, answers: list[OnSaved], path: Path) -> None:
        self._is_saving = False
        for answer in answers:
            answer(fault)
        if self._pending and self._memory is not None:
            self._start_saving(self._memory, path)


def _write_state_file(memory: int, path: Path) -> str | None:
    """Write the state file and close the memory; return an error message, if any."""
    try:
        save(memory, check_sealed(memory), path)
    except (OSError, SealedMemfdError) as error:
        return _save_error(path, error.strerror if isinstance(error, OSError) else str(error))
    finally:
        os.close(memory)
    return None


def _save_error(path: Path, reason: str | None) -> str:
    return f"the state file {path} could not be written: {reason}; the rules stay in memory"
