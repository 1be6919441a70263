"""Configuration files that a command reads itself, with the rights of whoever runs it."""

import sys
from pathlib import Path

from ..config.document import FileContent
from ..config.include import included_files
from ..config.reader import Configuration, read_files
from ..daemon.sealed_memfd import LIMIT_BYTES, read_bounded
from ..errors import McrError, RuleError
from .progress import progress


def read_configuration(file: str) -> Configuration:
    """Read a configuration with the files that it includes; ``-`` is standard input.

    Raises:
        ConfigError: a file is refused; with all problems.
        McrError: a file cannot be read.
    """
    return parse_configuration(*read_content(file))


def read_content(file: str) -> tuple[str, bytes]:
    """The name of a file, as problems show it, and its content; ``-`` is standard input.

    Raises:
        McrError: it cannot be read, or is larger than 64 MiB.
    """
    if file == "-":
        return "standard input", sys.stdin.buffer.read(LIMIT_BYTES)
    try:
        return file, read_bounded(Path(file))
    except OSError as error:
        raise McrError(f"{file} cannot be read: {error.strerror}") from None


def parse_configuration(name: str, content: bytes) -> Configuration:
    """The same for a main file that has been read already."""
    main = FileContent(name, content)
    files = [main]
    with progress(f"reading {name}"):
        for path in included_files(Path(name), _include_of(main)):
            try:
                files.append(FileContent(str(path), read_bounded(path)))
            except OSError as error:
                raise McrError(f"{path} cannot be read: {error.strerror}") from None
        return read_files(files)


def _include_of(main: FileContent) -> tuple[str, ...]:
    """The patterns of a file; whatever else is wrong with it is told with the included files."""
    if b"include" not in main.content:
        return ()
    try:
        return read_files([main]).include
    except RuleError:
        return ()
