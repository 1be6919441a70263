"""A directory as a source, such as a checkout or a share: no server is needed.

labels/KEY=VALUE.toml    for all nodes with this label (or .json)
nodes/NAME.toml          for one node (or .json)
status/NAME.json         written by the agent of the node
"""

import asyncio
import time
from pathlib import Path

from ..json_codec import encode
from ..text_file import put_text
from .source import DOCUMENT_BYTES, FleetDocument, NodeIdentity, SourceError
from .status import NodeStatus

_POLL_S = 0.2
_SUFFIXES = (".toml", ".json")
_Stamp = tuple[int, int, int] | None


class FileSource:
    """The documents of one node in a directory."""

    def __init__(self, directory: Path, node: NodeIdentity) -> None:
        """Read nothing yet."""
        self._directory = directory
        self._node = node
        labels = sorted(f"labels/{key}={value}" for key, value in node.labels)
        stems = [*labels, f"nodes/{node.name}"]
        self._stems = stems
        self._seen: list[_Stamp] = []

    async def read(self) -> tuple[FleetDocument, ...]:
        """Return the documents that exist; see `RuleSource`."""
        self._seen = self._stamps()
        if not self._directory.is_dir():
            raise SourceError(f"{self._directory} is not a directory, or not mounted")
        found = map(self._document, self._stems)
        return tuple(each for each in found if each is not None)

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return when a file has changed, or after the time; see `RuleSource`."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0 and self._stamps() == self._seen:
            await asyncio.sleep(min(_POLL_S, left))

    async def report(self, status: NodeStatus) -> None:
        """Replace the file of the node's status; see `RuleSource`."""
        directory = self._directory / "status"
        try:
            directory.mkdir(exist_ok=True)
            path = directory / f"{self._node.name}.json"
            put_text(path, encode(status).decode(), mode=0o644)
        except OSError as error:
            raise SourceError(f"{directory} cannot be written: {error.strerror}") from None

    def _document(self, stem: str) -> FleetDocument | None:
        paths = [path for path in self._paths(stem) if path.exists()]
        if not paths:
            return None
        if len(paths) > 1:
            raise SourceError(f"{paths[0]} and {paths[1]} both exist; remove one of them")
        try:
            with paths[0].open("rb") as file:
                content = file.read(DOCUMENT_BYTES + 1)
        except OSError as error:
            raise SourceError(f"{paths[0]} cannot be read: {error.strerror}") from None
        # TOML and JSON are UTF-8; the daemon refuses a rule with the characters put in its place.
        return FleetDocument(stem, content.decode(errors="replace"))

    def _paths(self, stem: str) -> list[Path]:
        return [self._directory / f"{stem}{suffix}" for suffix in _SUFFIXES]

    def _stamps(self) -> list[_Stamp]:
        return [_stamp(path) for stem in self._stems for path in self._paths(stem)]


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
