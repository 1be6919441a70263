"""The rule set that the supervisor keeps for the next control process, and its copy on disk.

Owns the newest one and the order of answers. Its bytes are not read; what they mean is control's.
"""

import os
from collections.abc import Callable
from pathlib import Path

from ..sealed_memfd import SealedMemfdError, check_sealed, read_bounded, sealed_memfd
from .atomic_file import save
from .disk_thread import DiskThread

_NAME = "mcr-rules"
_WAITING_LIMIT = 1000  # control asks for one at a time; whoever asks for this many floods
Answer = Callable[[str | None], None]
"""Called when the rule set is kept, with what the disk said against the state file."""


class SnapshotStore:
    """The kept rule set."""

    def __init__(self, disk: DiskThread, path: Path | None) -> None:
        """Begin with what the state file holds, if there is one.

        Args:
            disk: where the file is written.
            path: the state file; None to keep rules in memory only.

        Raises:
            OSError: there is a file that cannot be read, or is too large.
        """
        self._disk = disk
        self._path = path
        self._memory: int | None = None
        self._waiting: list[Answer] = []
        self._saving = False
        self.in_use = False
        """Whether control has kept it, so that workers run by it; else it is the file's."""
        if path is not None and path.exists():
            self._memory = sealed_memfd(read_bounded(path), _NAME)

    @property
    def empty(self) -> bool:
        """Whether no rule set was ever kept."""
        return self._memory is None

    def copy(self) -> int | None:
        """A descriptor of the newest, at its beginning, which the caller owns."""
        if self._memory is None:
            return None
        os.lseek(self._memory, 0, os.SEEK_SET)
        return os.dup(self._memory)

    def keep(self, memory: int, answer: Answer) -> None:
        """Keep this one instead; the descriptor is taken over.

        Where a disk is slower than changes, only the newest is written, and answers for all.

        Raises:
            SealedMemfdError: not sealed memory, too large, or one too many for a slow disk; the
                previous snapshot stays.
        """
        try:
            check_sealed(memory)
            if len(self._waiting) >= _WAITING_LIMIT:
                raise SealedMemfdError(f"{_WAITING_LIMIT} others wait for the disk")
        except SealedMemfdError:
            os.close(memory)
            raise
        if self._memory is not None:
            os.close(self._memory)
        self._memory, self.in_use = memory, True
        if self._path is None:
            answer(None)
            return
        self._waiting.append(answer)
        if not self._saving:
            self._save(memory, self._path)

    def _save(self, memory: int, path: Path) -> None:
        self._saving = True
        answers, self._waiting = self._waiting, []
        try:
            mine = os.dup(memory)  # a newer one may close the other while this is written
        except OSError as error:
            self._saved(_complaint(path, error.strerror), answers, path)
            return

        def job() -> Callable[[], None]:
            fault = _try_to_save(mine, path)
            return lambda: self._saved(fault, answers, path)

        self._disk.run(job)

    def _saved(self, fault: str | None, answers: list[Answer], path: Path) -> None:
        self._saving = False
        for answer in answers:
            answer(fault)
        if self._waiting and self._memory is not None:
            self._save(self._memory, path)


def _try_to_save(memory: int, path: Path) -> str | None:
    try:
        save(memory, check_sealed(memory), path)
    except (OSError, SealedMemfdError) as error:
        return _complaint(path, error.strerror if isinstance(error, OSError) else str(error))
    finally:
        os.close(memory)
    return None


def _complaint(path: Path, reason: str | None) -> str:
    return f"the state file {path} could not be written: {reason}; the rules stay in memory"
