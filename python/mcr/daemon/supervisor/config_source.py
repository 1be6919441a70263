"""The configuration: the bytes of its files, which control parses.

Reads them at the start, and again when the user or control requests it. Which files the main one
includes is known from control, which has parsed it.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ...config.include import PATTERNS_LIMIT, is_permitted
from ..file_pack import read_pack
from ..sealed_memfd import SealedMemfdError, check_sealed, sealed_memfd
from .disk_thread import DiskThread

_NAME = "mcr-config"
_PATTERNS_BYTES = 8 << 10


class ConfigSource:
    """The content of the files when they were last read."""

    def __init__(self, disk: DiskThread, path: Path, include: Iterable[str] = ()) -> None:
        """Read the files.

        Args:
            disk: the thread that reads them later.
            path: the main file.
            include: the patterns of the files that it includes.

        Raises:
            OSError: a file cannot be read, or they are larger than 64 MiB.
        """
        self._disk = disk
        self._path = path
        self.include = tuple(filter(is_permitted, include))
        """The patterns by which the content was read."""
        self._memory = sealed_memfd(read_pack(path, self.include), _NAME)
        self.is_reading = False
        """Whether the files are being read again."""
        self._reload_requested = False

    def duplicate(self) -> int:
        """Return a new descriptor of the content, at offset 0; the caller owns it."""
        os.lseek(self._memory, 0, os.SEEK_SET)
        return os.dup(self._memory)

    def follow(self, patterns: int) -> None:
        """Use the include patterns in this memory from now on, one a line; closes the descriptor.

        Raises:
            SealedMemfdError: it has something else.
        """
        try:
            size = check_sealed(patterns)
            lines = os.pread(patterns, _PATTERNS_BYTES + 1, 0).decode(errors="replace").splitlines()
        finally:
            os.close(patterns)
        acceptable = size <= _PATTERNS_BYTES and len(lines) <= PATTERNS_LIMIT
        if not acceptable or not all(map(is_permitted, lines)):
            raise SealedMemfdError("not a list of include patterns")
        self.include = tuple(lines)

    def reload(self, done: Callable[[str | None], None]) -> None:
        """Read the files again in the disk thread.

        Requests during a reload are combined into one further reload.

        Args:
            done: called with an error message, or with None once `duplicate` returns the new
                content.
        """
        if self.is_reading:
            self._reload_requested = True
            return
        self.is_reading = True
        include = self.include

        def job() -> Callable[[], None]:
            result = self._read(include)
            return lambda: self._finish_reload(result, done)

        self._disk.run(job)

    def _read(self, include: tuple[str, ...]) -> int | str:
        """The memory with the new content, or an error message."""
        try:
            return sealed_memfd(read_pack(self._path, include), _NAME)
        except OSError as error:
            name = error.filename or self._path
            return f"{name} cannot be read: {error.strerror}; the rules stay as they are"

    def _finish_reload(self, result: int | str, done: Callable[[str | None], None]) -> None:
        self.is_reading = False
        if self._reload_requested:
            # The files or the patterns may have changed since; only the newest content counts.
            self._reload_requested = False
            if not isinstance(result, str):
                os.close(result)
            self.reload(done)
        elif isinstance(result, str):
            done(result)
        else:
            os.close(self._memory)
            self._memory = result
            done(None)
