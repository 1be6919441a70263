"""The last documents of a node in a file, for a start at which the source cannot be read."""

from dataclasses import dataclass
from pathlib import Path

from ..json_codec import JsonError, JsonObject, decode, encode
from ..text_file import put_text
from .source import FleetDocument


@dataclass(frozen=True, slots=True)
class RememberedDocuments(JsonObject):
    """The documents that an agent has read last."""

    documents: tuple[FleetDocument, ...] = ()
    read_at: float | None = None
    """Unix time, in seconds; None if none was ever read."""


def recall(path: Path | None) -> RememberedDocuments:
    """The documents in the file; none if there is no file.

    Raises:
        OSError: it cannot be read.
        JsonError: it has another content.
    """
    if path is None or not path.exists():
        return RememberedDocuments()
    try:
        return decode(RememberedDocuments, path.read_bytes())
    except JsonError as error:
        raise JsonError(f"{path} is not the state of an agent: {error}; remove it") from None


def remember(path: Path | None, remembered: RememberedDocuments) -> None:
    """Replace the file; raises OSError."""
    if path is not None:
        put_text(path, encode(remembered).decode(), mode=0o644)
