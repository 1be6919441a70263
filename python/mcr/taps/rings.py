"""The memory of a tap's rings."""

import mmap
import os
from contextlib import suppress

from .._native import TapReader
from ..shared_memory import fixed_size_memfd


class TapRings:
    """One ring for each worker, writable; nothing takes memory before it is written."""

    def __init__(self, workers: int, ring_bytes: int) -> None:
        """Create the memory.

        Raises:
            OSError: no descriptor is left.
        """
        self._ring_bytes = ring_bytes
        self.descriptors: list[int] = []
        """By the numbers of the workers."""
        try:
            for _ in range(workers):
                self.descriptors.append(fixed_size_memfd(ring_bytes, "mcr-tap"))
        except OSError:
            self.close()
            raise

    def readers(self) -> tuple[TapReader, ...]:
        """A reader of each."""
        return tuple(map(TapReader, self.descriptors))

    def close(self) -> None:
        """Free the memory, also where another process has not closed it, and close it."""
        for descriptor in self.descriptors:
            with suppress(OSError), mmap.mmap(descriptor, self._ring_bytes) as mapped:
                mapped.madvise(mmap.MADV_REMOVE)
            os.close(descriptor)
        self.descriptors.clear()
