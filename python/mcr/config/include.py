"""Included files: which patterns are permitted, and which files they name.

Whoever opens the files may have more rights than whoever wrote a pattern, so that patterns cannot
leave the directory of the main file. Parses no file, and loads nothing that does.
"""

import re
from collections.abc import Iterable
from pathlib import Path

PATTERNS_LIMIT = 16
FILES_LIMIT = 1000
_PATTERN_CHARS = 200
_PATTERN = re.compile(r"(?:[A-Za-z0-9_*?-][A-Za-z0-9_.*?-]*/){0,4}[A-Za-z0-9_*?-][A-Za-z0-9_.*?-]*")
_SUFFIXES = (".toml", ".json")


def is_permitted(pattern: object) -> bool:
    """Whether a value is a pattern of files below the directory of the main file."""
    return (
        isinstance(pattern, str)
        and len(pattern) <= _PATTERN_CHARS
        and _PATTERN.fullmatch(pattern) is not None
        and "**" not in pattern
        and pattern.endswith(_SUFFIXES)
    )


def included_files(main: Path, patterns: Iterable[str]) -> list[Path]:
    """The files of permitted patterns, in the order of these and then of their names.

    Raises:
        OSError: there are too many files.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        found |= dict.fromkeys(sorted(main.parent.glob(pattern)))
    found.pop(main, None)
    if len(found) > FILES_LIMIT:
        raise OSError(0, f"it includes {len(found)} files, and {FILES_LIMIT} is the most")
    return list(found)
