"""`RuleSource`: the seam between an agent and the store that holds its documents."""

import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple, Protocol

from ..errors import McrError
from ..json_codec import JsonObject
from .status import NodeStatus

DOCUMENT_BYTES = 4 << 20
"""The longest document: more than the text of 10,000 rules."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class SourceError(McrError):
    """The store cannot be reached or read; the text names the cause."""


class StoreConflict(SourceError):
    """A document was changed by another client since it was read."""


class StoredText(NamedTuple):
    """A text that a store holds."""

    name: str
    """Such as ``nodes/ams1``, ``labels/site=ams``, or the name of a node."""
    text: str
    revision: int
    """Its position among all texts of the store: a later one is larger."""
    written_at: float | None = None
    """Unix time in seconds; None where it was not asked for."""


@dataclass(frozen=True, slots=True)
class FleetDocument(JsonObject):
    """A configuration that a store holds for some nodes; `daemon` and `include` are not allowed."""

    name: str
    """Its name in the store, which problems show, such as ``nodes/ams1``."""
    text: str
    """TOML or JSON."""

    @property
    def revision(self) -> str:
        """12 hex digits, the same for the same text."""
        return sha256(self.text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """The name and the labels of a node, which say which documents are its own."""

    name: str
    """1 to 100 letters, digits, ``_``, ``.`` and ``-``, the first a letter or digit."""
    labels: tuple[tuple[str, str], ...] = field(default=())
    """Pairs of key and value, each like a name."""

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            ValueError: one has other characters, or a label occurs twice.
        """
        for text in (self.name, *(part for label in self.labels for part in label)):
            if not _NAME.fullmatch(text):
                raise ValueError(
                    f"{text!r} must be 1 to 100 letters, digits, '_', '.' or '-', and begin with a"
                    " letter or digit"
                )
        if len({key for key, _ in self.labels}) < len(self.labels):
            raise ValueError("each label may be given once; remove the other one")


class RuleSource(Protocol):
    """A store of documents, as the agent of one node uses it.

    `report` may run beside the other methods; nothing else runs twice at a time.
    """

    async def read(self) -> tuple[FleetDocument, ...]:
        """Return the documents of the node: those of its labels, then its own.

        Raises:
            SourceError: the store cannot be read. A document that does not exist is no error.
        """

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return when a document may have changed, or after `timeout_s` seconds."""

    async def report(self, status: NodeStatus) -> None:
        """Write the status of the node.

        Raises:
            SourceError: the store cannot be written.
        """
