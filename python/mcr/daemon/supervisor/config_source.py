"""The configuration file: its bytes, which control parses.

Reads the file at the start, and again when the user requests it. Does not parse it.
"""

import os
from collections.abc import Callable
from pathlib import Path

from ..sealed_memfd import read_bounded, sealed_memfd
from .disk_thread import DiskThread

_NAME = "mcr-config"


class ConfigSource:
    """The content of the file when it was last read."""

    def __init__(self, disk: DiskThread, path: Path) -> None:
        """Read the file.

        Raises:
            OSError: the file cannot be read, or is larger than 64 MiB.
        """
        self._disk = disk
        self._path = path
        self._memory = sealed_memfd(read_bounded(path), _NAME)
        self._is_reading = False
        self._reload_requested = False

    def duplicate(self) -> int:
        """Return a new descriptor of the content, at offset 0; the caller owns it."""
        os.lseek(self._memory, 0, os.SEEK_SET)
        return os.dup(self._memory)

    def reload(self, done: Callable[[str | None], None]) -> None:
        """Read the file again in the disk thread.

        Requests during a reload are combined into one further reload.

        Args:
            done: called with an error message, or with None once `duplicate` returns the new
                content.
        """
        if self._is_reading:
            self._reload_requested = True
            return
        self._is_reading = True

        def job() -> Callable[[], None]:
            result = self._read()
            return lambda: self._finish_reload(result, done)

        self._disk.run(job)

    def _read(self) -> int | str:
        """The memory with the new content, or an error message."""
        try:
            return sealed_memfd(read_bounded(self._path), _NAME)
        except OSError as error:
            return f"{self._path} cannot be read: {error.strerror}; the rules stay as they are"

    def _finish_reload(self, result: int | str, done: Callable[[str | None], None]) -> None:
        self._is_reading = False
        if isinstance(result, str):
            done(result)
        else:
            os.close(self._memory)
            self._memory = result
            done(None)
        if self._reload_requested:
            self._reload_requested = False
            self.reload(done)
