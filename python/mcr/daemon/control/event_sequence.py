"""The number of the last event of each kind, in memory that outlives this process.

The supervisor passes the memory from one control process to the next without reading it, so that
the next one continues exactly where a killed one stopped.
"""

import os
from collections.abc import Mapping

from ...protocol.constants import EVENT_KINDS

_BYTES = 8
_LARGEST = 2**62 - 1


class EventSequence:
    """Memory with one number for each kind of event."""

    def __init__(self, descriptor: int) -> None:
        """Use a memfd (memfd_create(2)); an empty one holds zeros."""
        self._descriptor = descriptor

    def last(self) -> Mapping[str, int]:
        """The recorded number of each kind, from this or an earlier process.

        The numbers are masked, so that even values from a compromised process leave room for
        further events.
        """
        return {
            kind: int.from_bytes(os.pread(self._descriptor, _BYTES, offset), "little") & _LARGEST
            for kind, offset in _OFFSETS.items()
        }

    def record(self, kind: str, number: int) -> None:
        """Record a number in one write: if the process is killed, it is the old or the new one."""
        os.pwrite(self._descriptor, number.to_bytes(_BYTES, "little"), _OFFSETS[kind])


_OFFSETS: Mapping[str, int] = {kind: _BYTES * index for index, kind in enumerate(EVENT_KINDS)}
