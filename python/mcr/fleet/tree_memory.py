"""The trees of a directory in its file tree.json, from which the next plan starts."""

from dataclasses import dataclass
from pathlib import Path

from ..json_codec import JsonError, JsonObject, decode, encode
from .file_source import replace_file


@dataclass(frozen=True, slots=True)
class RememberedTrees(JsonObject):
    """The parent of each node, for each tree."""

    trees: tuple[dict[str, str], ...] = ()


def recall_trees(path: Path) -> tuple[dict[str, str], ...]:
    """The trees in the file; none if there is no file.

    Raises:
        OSError: it cannot be read.
        JsonError: it has another content.
    """
    if not path.exists():
        return ()
    try:
        return decode(RememberedTrees, path.read_bytes()).trees
    except JsonError as error:
        raise JsonError(f"{path} has no trees: {error}; remove it") from None


def remember_trees(path: Path, trees: tuple[dict[str, str], ...]) -> None:
    """Replace the file; raises OSError."""
    replace_file(path, encode(RememberedTrees(trees)))
