"""The number of the last event, in memory that outlives this process.

Owns the eight bytes in which it stands. The supervisor passes the memory from one control process
to the next and does not read it, so that a successor counts on exactly where a killed one was.
"""

import os

_BYTES = 8


class Numbers:
    """Memory that holds one number."""

    def __init__(self, descriptor: int) -> None:
        """Take a memfd (memfd_create(2)); an empty one holds 0."""
        self._descriptor = descriptor

    def last(self) -> int:
        """The number that was noted last, by whatever process."""
        return int.from_bytes(os.pread(self._descriptor, _BYTES, 0), "little")

    def note(self, number: int) -> None:
        """Note it, in one write: whatever ends the process, it is the old number or the new."""
        os.pwrite(self._descriptor, number.to_bytes(_BYTES, "little"), 0)
