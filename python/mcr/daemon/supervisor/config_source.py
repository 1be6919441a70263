"""The configuration file: its bytes, for control to read.

Owns when it is read: at the start, and again when the user asks. Does not look into it.
"""

import os
from collections.abc import Callable
from pathlib import Path

from ..sealed_memfd import read_bounded, sealed_memfd
from .disk_thread import DiskThread

_NAME = "mcr-config"


class ConfigSource:
    """The bytes of the file as they were when it was last read."""

    def __init__(self, disk: DiskThread, path: Path) -> None:
        """Read the file.

        Raises:
            OSError: it cannot be read, or is larger than 64 MiB.
        """
        self._disk = disk
        self._path = path
        self._memory = sealed_memfd(read_bounded(path), _NAME)
        self._reading = False
        self._asked_meanwhile = False

    def copy(self) -> int:
        """A descriptor of the bytes, at their beginning, which the caller owns."""
        os.lseek(self._memory, 0, os.SEEK_SET)
        return os.dup(self._memory)

    def read_again(self, done: Callable[[str | None], None]) -> None:
        """Read the file again, aside; whatever is asked meanwhile is one reading more.

        Args:
            done: called with what went wrong, or None when `copy` gives the new bytes.
        """
        if self._reading:
            self._asked_meanwhile = True
            return
        self._reading = True

        def job() -> Callable[[], None]:
            found = self._try()
            return lambda: self._take(found, done)

        self._disk.run(job)

    def _try(self) -> int | str:
        try:
            return sealed_memfd(read_bounded(self._path), _NAME)
        except OSError as error:
            return f"{self._path} cannot be read: {error.strerror}; the rules stay as they are"

    def _take(self, found: int | str, done: Callable[[str | None], None]) -> None:
        self._reading = False
        if isinstance(found, str):
            done(found)
        else:
            os.close(self._memory)
            self._memory = found
            done(None)
        if self._asked_meanwhile:
            self._asked_meanwhile = False
            self.read_again(done)
