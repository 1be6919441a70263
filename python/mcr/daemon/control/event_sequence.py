"""The number of the last event of each kind, in memory that outlives this process.

Owns the few bytes in which they stand. The supervisor passes the memory from one control process
to the next and does not read it, so that a successor counts on exactly where a killed one was.
"""

import os
from collections.abc import Mapping

from ...protocol.constants import EVENT_KINDS

_BYTES = 8
_LARGEST = 2**62 - 1


class EventSequence:
    """Memory that holds a number for each kind of events."""

    def __init__(self, descriptor: int) -> None:
        """Take a memfd (memfd_create(2)); an empty one holds zeros."""
        self._descriptor = descriptor

    def last(self) -> Mapping[str, int]:
        """The numbers that were noted last, by whatever process.

        None is so large that counting on would not fit, even if somebody had the process before.
        """
        return {
            kind: int.from_bytes(os.pread(self._descriptor, _BYTES, place), "little") & _LARGEST
            for kind, place in _PLACES.items()
        }

    def note(self, kind: str, number: int) -> None:
        """Note one, in one write: whatever ends the process, it is the old number or the new."""
        os.pwrite(self._descriptor, number.to_bytes(_BYTES, "little"), _PLACES[kind])


_PLACES: Mapping[str, int] = {kind: _BYTES * at for at, kind in enumerate(EVENT_KINDS)}
