"""Lines of JSON as they arrive: bytes in, whole lines out, within a limit.

Owns where a line ends and how long it may be. Parses no JSON.
"""

from .constants import LINE_BYTES


class LineTooLong(Exception):
    """The peer began a line that exceeds the limit."""


class LineBuffer:
    """Bytes as they arrive, taken out as lines."""

    def __init__(self, limit_bytes: int = LINE_BYTES) -> None:
        """Start empty; a line may have at most `limit_bytes` with its line feed."""
        self._limit_bytes = limit_bytes
        self._bytes = bytearray()
        self._searched = 0
        self.lines = 0
        """The number of whole lines that wait."""

    def __len__(self) -> int:
        """The number of bytes that wait."""
        return len(self._bytes)

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
        self._bytes += data
        self.lines += data.count(b"\n")

    def take(self) -> bytes | None:
        """The next line without white space around it; None if no whole one has arrived.

        Raises:
            LineTooLong: it exceeds the limit, ended or not.
        """
        end = self._bytes.find(b"\n", self._searched)
        if (len(self._bytes) if end < 0 else end + 1) > self._limit_bytes:
            raise LineTooLong
        if end < 0:
            self._searched = len(self._bytes)
            return None
        line = bytes(self._bytes[:end]).strip()
        del self._bytes[: end + 1]
        self._searched = 0
        self.lines -= 1
        return line

    def rest(self) -> bytes:
        """The bytes behind the last line feed, once nothing more can come; empties the buffer."""
        rest = bytes(self._bytes).strip()
        self._bytes.clear()
        self._searched = self.lines = 0
        return rest
