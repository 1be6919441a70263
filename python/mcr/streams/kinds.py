"""What a stream carries, from the form of its first datagrams."""

from .results import Confidence, Kind

SAMPLES = 64
"""The number of datagrams of a stream that are looked at."""
_MANY, _SOME = 8, 3
_TS_BYTES, _TS_SYNC = 188, 0x47
_RTP_BYTES, _RTP_VERSION = 12, 2
_MOLD_BYTES, _SESSION_BYTES = 20, 10
_MOLD_MARKS = (0, 0xFFFF)  # a heartbeat, and the end of a session


class StreamClassifier:
    """Looks at the datagrams of one stream, in the order of arrival."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.seen = 0
        self._fitting: dict[Kind, int] = {"ts": 0, "rtp": 0, "rtp-ts": 0, "mold": 0}
        self._rtp: tuple[int, bytes] | None = None
        self._mold: tuple[bytes, int] | None = None

    def add(self, payload: bytes) -> None:
        """Look at the next datagram."""
        self.seen += 1
        self._fitting["ts"] += _is_ts(payload)
        self._fitting["mold"] += self._continues_mold(payload)
        if self._continues_rtp(payload):
            self._fitting["rtp"] += 1
            self._fitting["rtp-ts"] += _is_ts(payload[_RTP_BYTES:])

    def result(self) -> tuple[Kind, Confidence]:
        """The kind, and how sure that is."""
        for kind in ("rtp-ts", "ts", "mold", "rtp"):
            fitting = self._fitting[kind]
            # One lost or reordered datagram in eight is still the same stream.
            if fitting and fitting >= self.seen - self.seen // _MANY:
                if fitting >= _MANY:
                    return kind, "high"
                return kind, "medium" if fitting >= _SOME else "low"
        return "unknown", "none"

    def _continues_rtp(self, payload: bytes) -> bool:
        """RFC 3550, 5.1: one sender, and the next number; the first of a stream only has the form.

        A gap is not the next number, but the one after it is again.
        """
        if len(payload) < _RTP_BYTES or payload[0] >> 6 != _RTP_VERSION:
            return False
        number, sender = int.from_bytes(payload[2:4]), payload[8:12]
        before, self._rtp = self._rtp, (number, sender)
        return before is None or before == ((number - 1) % 2**16, sender)

    def _continues_mold(self, payload: bytes) -> bool:
        """A session of ten characters, the next number, and messages that fill the datagram."""
        if len(payload) < _MOLD_BYTES:
            return False
        session = payload[:_SESSION_BYTES]
        number = int.from_bytes(payload[_SESSION_BYTES:18])
        count = int.from_bytes(payload[18:20])
        if not (session.isascii() and session.decode().isprintable()):
            return False
        before, expected = self._mold, (session, number)
        messages = 0 if count in _MOLD_MARKS else count
        if not _fills(payload, messages):
            return False
        self._mold = (session, number + messages)
        return before is None or before == expected


def _fills(payload: bytes, messages: int) -> bool:
    at = _MOLD_BYTES
    for _ in range(messages):
        if at + 2 > len(payload):
            return False
        at += 2 + int.from_bytes(payload[at : at + 2])
    return at == len(payload)


def _is_ts(payload: bytes) -> bool:
    """Whole packets of 188 bytes, each with its sync byte (ISO/IEC 13818-1, 2.4.3.2)."""
    return (
        len(payload) >= _TS_BYTES
        and len(payload) % _TS_BYTES == 0
        and all(each == _TS_SYNC for each in payload[::_TS_BYTES])
    )
