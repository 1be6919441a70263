"""The trees of a directory in its file tree.json, from which the next plan starts."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..json_codec import JsonError, JsonObject, decode, encode
from ..text_file import replace_text
from .source import FleetDocument

_FILE = "tree.json"


@dataclass(frozen=True, slots=True)
class RememberedTrees(JsonObject):
    """The parent of each node, for each tree."""

    trees: tuple[dict[str, str], ...] = ()


def recall_trees(directory: Path) -> tuple[dict[str, str], ...]:
    """The trees of a directory; none if it has no file of them.

    Raises:
        OSError: it cannot be read.
        JsonError: it has another content.
    """
    path = directory / _FILE
    if not path.exists():
        return ()
    try:
        return decode(RememberedTrees, path.read_bytes()).trees
    except JsonError as error:
        raise JsonError(f"{path} has no trees: {error}; remove it") from None


def write_trees(
    directory: Path, trees: tuple[dict[str, str], ...], documents: Iterable[FleetDocument]
) -> None:
    """Replace the documents of the nodes, and the file of the trees; raises OSError."""
    (directory / "nodes").mkdir(parents=True, exist_ok=True)
    for document in documents:
        replace_text(directory / f"{document.name}.toml", document.text, mode=0o644)
    replace_text(directory / _FILE, encode(RememberedTrees(trees)).decode(), mode=0o644)
