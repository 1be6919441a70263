"""The daemon's settings in a configuration file, parsed by a child process without rights.

The process that starts the daemon may be root, and parses nothing that a file contains.
"""

import json
import os
import select
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._native import drop_privileges
from ..config.document import FileContent
from ..config.reader import read_files
from ..errors import ConfigError, McrError, Problem
from .account import check_may_become, target_account
from .file_pack import read_pack, unpack

_TIME_S = 30.0
_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileSettings:
    """What the start of the daemon needs of a configuration file."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """The table `daemon`."""
    include: tuple[str, ...] = ()
    """The patterns of included files."""


def read_settings(path: Path) -> FileSettings:
    """Read the settings of a configuration file; its rules are left to control.

    Raises:
        ConfigError: the file is refused; with all of its problems, also those of rules.
        McrError: the file cannot be read, or the child process failed, such as to become nobody.
    """
    try:
        pack = read_pack(path, ())
    except OSError as error:
        raise McrError(f"--config: {path} cannot be read: {error.strerror}") from None
    answer = _in_child(pack)
    if "refusal" in answer:
        raise McrError(answer["refusal"])
    problems = answer.get("problems")
    if problems:
        raise ConfigError([Problem((place,), message) for place, message in problems])
    return FileSettings(answer["settings"], tuple(answer["include"]))


def _in_child(pack: bytes) -> dict[str, Any]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            _write(writer, json.dumps(_answer(pack)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        content = _read(reader)
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    try:
        answer: dict[str, Any] = json.loads(content)
    except ValueError:
        raise McrError("the process that reads the configuration has failed") from None
    return answer


def _answer(pack: bytes) -> dict[str, Any]:
    try:
        _drop_rights()
    except McrError as error:
        return {"refusal": str(error)}
    return _parse(pack)


def _drop_rights() -> None:
    account = target_account(None)
    check_may_become(account)
    if account is None:
        drop_privileges(os.geteuid(), os.getegid())
    else:
        drop_privileges(account.uid, account.gid)


def _parse(pack: bytes) -> dict[str, Any]:
    try:
        configuration = read_files([FileContent(*each) for each in unpack(pack)])
    except ConfigError as error:
        return {"problems": [(each.field, each.message) for each in error.problems]}
    return {"settings": dict(configuration.settings), "include": configuration.include}


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read(descriptor: int) -> bytes:
    """All that the child writes, within the limits of time and size."""
    content, ends_s = b"", time.monotonic() + _TIME_S
    while len(content) <= _ANSWER_BYTES:
        left_s = ends_s - time.monotonic()
        if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
            break
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            return content
        content += piece
    return b""
