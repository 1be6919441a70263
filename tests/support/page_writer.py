"""A page of counters as a worker process fills it.

Knows the layout of `rust/stats`; a page of another layout fails the tests that read it.
"""

import functools
import mmap
import struct
import time
from collections.abc import Sequence

_SLOT_WORDS = 32
_MAX_SLOTS = 65_536
_SEQUENCE, _USED, _ALIVE_MS = 1, 4, 5
_GENERATION, _TAG = 0, _SLOT_WORDS - 1
_METADATA = (_MAX_SLOTS + 1) * _SLOT_WORDS
_METADATA_WORDS = 4
_NO_RULE = 8 + 8  # the words of an interface's drops, and the reason's place among them
_OUTPUT_FULL = 5 + 1  # the same of an output
_KINDS = {"interface": 0, "group": 1, "rule": 2, "output": 3}
_LOOPBACK = 0xFFFF_7F00_0001  # the lower half of ::ffff:127.0.0.1
ALWAYS = 1 << 62
"""A time of the last sign of life that is never over."""


class PageWriter:
    """Writes the counters of a worker with one interface."""

    def __init__(self, page: int) -> None:
        """Map the page of a descriptor, which the caller still owns."""
        self._memory = mmap.mmap(page, 0)
        self.words = memoryview(self._memory).cast("Q")
        """All of it, for tests that write nonsense."""
        self._written: object = None

    def close(self) -> None:
        """Unmap it."""
        self.words.release()
        self._memory.close()

    def write_alive(self, at_ms: int = ALWAYS) -> None:
        """Write the time of the last sign of life, by CLOCK_MONOTONIC_COARSE."""
        self.words[_ALIVE_MS] = at_ms

    def take_over(self) -> None:
        """Begin as the successor of a worker."""
        self.words[_SEQUENCE] += self.words[_SEQUENCE] % 2
        self.write_alive()

    def stop_publishing(self) -> None:
        """Leave the page in the middle of an update, like a process that was stopped."""
        self.words[_SEQUENCE] |= 1

    def write(
        self,
        rules: Sequence[tuple[str, Sequence[bytes]]],
        counts: dict[str, int],
        losses: dict[str, int],
        kernel_drops: int,
    ) -> None:
        """Write everything.

        Args:
            rules: the id of each, and the keys of its outputs.
            counts: how many datagrams each rule has relayed; 0 where none is said.
            losses: how many of these each of its outputs has lost, as `output_full`.
            kernel_drops: frames that the kernel lost.
        """
        if self._written == (rules, counts, losses, kernel_drops):
            return
        self._written = (rules, dict(counts), dict(losses), kernel_drops)
        total = sum(counts.values())
        self._slot(
            0, ("interface", b"lo"), {1: total + 1, 2: total, 5: 100 * (total + 1), _NO_RULE: 1}
        )
        beside = _METADATA
        self.words[beside], self.words[beside + 1] = kernel_drops, int.from_bytes(b"lo", "little")
        used = 1
        for rule_id, keys in rules:
            matched, name = counts.get(rule_id, 0), rule_id.encode()
            seen = {3: round(time.monotonic() * 1000), 5: _LOOPBACK} if matched else {}
            self._slot(used, ("rule", name), {1: matched, 2: 100 * matched, **seen})
            for place, key in enumerate(keys):
                sent = matched - losses.get(rule_id, 0)
                counted = {1: matched, 2: sent, 3: 100 * sent, _OUTPUT_FULL: matched - sent}
                self._slot(used + 1 + place, ("output", key), counted)
            used += 1 + len(keys)
        for gone in range(used, self.words[_USED]):
            self.words[(gone + 1) * _SLOT_WORDS + _TAG] = 0
        self.words[_USED] = max(used, self.words[_USED])
        self.words[_SEQUENCE] = (self.words[_SEQUENCE] | 1) + 1

    def _slot(
        self, index: int, owner: tuple[str, *tuple[bytes, ...]], counts: dict[int, int]
    ) -> None:
        words = [counts.get(at, 0) for at in range(_SLOT_WORDS)]
        words[_GENERATION], words[_TAG] = 1, _tag(*owner)
        struct.pack_into("<32Q", self._memory, (index + 1) * _SLOT_WORDS * 8, *words)


@functools.cache
def _tag(kind: str, *parts: bytes) -> int:
    """The owner of a slot: FNV-1a over its kind, and each part and its length; then the kind."""
    data = bytes([_KINDS[kind]])
    data += b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    tag = 0xCBF29CE484222325
    for byte in data:
        tag = (tag ^ byte) * 0x100000001B3 % (1 << 64)
    return max(tag & ~3 | _KINDS[kind], 4)
