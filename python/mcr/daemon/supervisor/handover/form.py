"""The messages between two supervisors: a structure of fixed size, with the version of its form.

Descriptors go beside a message. Every version of mcr reads the header, so that two versions whose
forms differ can say so.
"""

import enum
import struct
from dataclasses import dataclass
from typing import Self

FORM = 1
"""The version; it rises with every change of the messages or of their meaning."""
_MAGIC = b"mcr-take"
_HEADER = struct.Struct("<8sHH")
_REST = struct.Struct("<I4Q512s")
MESSAGE_BYTES = _HEADER.size + _REST.size
RECORD_BYTES = 512
"""The size of the bytes in a message: a record of the broker, or a path."""
DESCRIPTORS = 6
"""The most descriptors beside a message."""


class Kind(enum.IntEnum):
    """What a message is."""

    HELLO = 1
    """New to old. `number`: workers; `values`: see `Needs`; `content`: the path for observers."""
    REFUSED = 2
    """Old to new. `number`: a `TakeoverRefusal`; `values[0]`: what the old one has instead."""
    OFFER = 3
    """Old to new, with listener, lock, memory of event numbers and rules, and perhaps the listener
    and lock for observers. `number`: 1 if pages follow."""
    PAGE = 4
    """Old to new, with the page of counters of worker `number`."""
    LEASE = 5
    """Old to new, with a socket. `content`: the broker's record."""
    OFFERED = 6
    """Old to new: the end of what is handed over. `number`: how many leases there were."""
    STANDBY = 7
    """New to old: control and workers run, and wait."""
    COUNTS = 8
    """Old to new, with memory: what worker `number` has counted, if the layouts of pages differ."""
    GO = 9
    """Old to new: the workers have ended."""
    COMMIT = 10
    """New to old: the workers relay."""


class TakeoverRefusal(enum.IntEnum):
    """Why the old supervisor does not hand over."""

    OTHER_FORM = 1
    NOT_READY = 2
    BUSY = 3
    WORKERS = 4
    INGRESS = 5
    NAMESPACE = 6
    OFFLOAD = 7
    RECORDS = 8
    ENDING = 9
    DIED = 10
    TIMEOUT = 11


class FormError(Exception):
    """A message has another form; the text is a phrase."""


@dataclass(frozen=True, slots=True)
class Form:
    """A message."""

    kind: Kind
    number: int = 0
    values: tuple[int, int, int, int] = (0, 0, 0, 0)
    content: bytes = b""

    def to_bytes(self) -> bytes:
        """The message as bytes."""
        rest = _REST.pack(self.number, *self.values, self.content)
        return _HEADER.pack(_MAGIC, FORM, self.kind) + rest

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read a message.

        Raises:
            FormError: it has another form.
        """
        if len(content) < _HEADER.size:
            raise FormError("a message that is too short")
        magic, form, kind = _HEADER.unpack_from(content)
        if magic != _MAGIC:
            raise FormError("a message of another program")
        if form != FORM or len(content) != MESSAGE_BYTES:
            raise FormError(f"messages of form {form}; this version has {FORM}")
        number, *values, rest = _REST.unpack_from(content, _HEADER.size)
        one, two, three, four = values
        try:
            return cls(Kind(kind), number, (one, two, three, four), rest)
        except ValueError:
            raise FormError(f"an unknown message ({kind})") from None


@dataclass(frozen=True, slots=True)
class Needs:
    """What both daemons must have in common, and the layout of pages, in which they may differ."""

    workers: int
    ingress: str
    namespace: tuple[int, int]
    """Device and inode of the network namespace."""
    records: int
    """The version of the form of the broker's records."""
    layout: int
    """Of the pages of counters."""
    observers: bytes = b""
    """The path of the socket for observers; empty without one."""

    def form(self) -> Form:
        """The message that says so."""
        is_packet = int(self.ingress == "packet")
        values = (self.layout, *self.namespace, self.records << 1 | is_packet)
        return Form(Kind.HELLO, self.workers, values, self.observers)

    @classmethod
    def read(cls, form: Form) -> Self:
        """Read that message."""
        layout, device, inode, last = form.values
        ingress = "packet" if last & 1 else "udp"
        path = form.content.rstrip(b"\0")
        return cls(form.number, ingress, (device, inode), last >> 1, layout, path)

    def refusal(self, other: Self) -> tuple[TakeoverRefusal, int] | None:
        """Why a daemon with these needs does not hand over to one with the others."""
        if other.workers != self.workers:
            return TakeoverRefusal.WORKERS, self.workers
        if other.ingress != self.ingress:
            return TakeoverRefusal.INGRESS, int(self.ingress == "packet")
        if other.namespace != self.namespace:
            return TakeoverRefusal.NAMESPACE, 0
        if other.records != self.records:
            return TakeoverRefusal.RECORDS, self.records
        return None


def refusal_text(refusal: int, value: int) -> str:
    """A sentence for the user of the new version."""
    ingress = "packet" if value else "udp"
    known = {
        TakeoverRefusal.OTHER_FORM: "its version cannot hand over to this one; restart it instead",
        TakeoverRefusal.NOT_READY: "it is still starting; try again",
        TakeoverRefusal.BUSY: "it hands over to another process, or changes rules; try again",
        TakeoverRefusal.WORKERS: f"it has --workers {value}; use the same number",
        TakeoverRefusal.INGRESS: f"it has --ingress {ingress}; use the same one",
        TakeoverRefusal.NAMESPACE: "it runs in another network namespace; start this one there",
        TakeoverRefusal.OFFLOAD: "it relays in the kernel (--offload), which cannot be handed over;"
        " restart it instead",
        TakeoverRefusal.RECORDS: "its version describes sockets in another way; restart it instead",
        TakeoverRefusal.ENDING: "it is ending",
        TakeoverRefusal.DIED: "one of its processes has died meanwhile; try again",
        TakeoverRefusal.TIMEOUT: "this process took too long to start",
    }
    text = (
        known.get(TakeoverRefusal(refusal))
        if refusal in TakeoverRefusal.__members__.values()
        else None
    )
    return text or f"it refuses, for reason {refusal}"
