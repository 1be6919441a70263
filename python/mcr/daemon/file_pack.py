"""The files of a configuration as one block of memory, from the supervisor to control.

NAME LF SIZE LF CONTENT     for each file, the main one first
"""

from collections.abc import Iterable
from pathlib import Path

from ..config.include import included_files
from .sealed_memfd import LIMIT_BYTES, read_bounded


def read_pack(main: Path, include: Iterable[str]) -> bytes:
    """Read a configuration file and those that it includes, without a look at what they say.

    Args:
        main: the file.
        include: permitted patterns.

    Raises:
        OSError: one of them cannot be read, or they are larger than 64 MiB; `filename` says which.
    """
    pieces: list[bytes] = []
    for path in [main, *included_files(main, include)]:
        try:
            content = read_bounded(path)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
        name = str(path).replace("\n", " ").encode(errors="replace")
        pieces += [b"%s\n%d\n" % (name, len(content)), content]
    if sum(map(len, pieces)) > LIMIT_BYTES:
        raise OSError(0, f"with the files that it includes it is larger than {LIMIT_BYTES} bytes")
    return b"".join(pieces)


def unpack(pack: bytes) -> list[tuple[str, bytes]]:
    """The names and contents of the files.

    Raises:
        ValueError: it is not the output of `read_pack`.
    """
    files, rest = [], pack
    while rest:
        name, size, rest = rest.split(b"\n", 2)
        files.append((name.decode(), rest[: int(size)]))
        rest = rest[int(size) :]
    return files
