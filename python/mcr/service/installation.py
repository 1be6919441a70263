"""Installs and removes the files of the service; a step shows what it does before it does it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from ..errors import McrError
from ..text_file import replace_text
from .files import ServiceFile

_HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))
"""What ProtectHome= and PrivateTmp= of the unit hide from the service."""
_VERSION_S = 10.0  # it only prints text


class FileStep(NamedTuple):
    """What happens to one file."""

    action: Literal["write", "replace", "unchanged", "keep", "remove"]
    path: Path
    text: str = ""

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.action:9} {self.path}"


def installed_program(argv0: str) -> Path:
    """The absolute path of the running command, which the unit starts.

    Raises:
        McrError: the service could not start it; with the reason.
    """
    program = Path(os.path.abspath(argv0))
    if not (program.is_file() and os.access(program, os.X_OK)):
        raise McrError(f"{program} is not a program: run the installed command mcr")
    if any(letter.isspace() or letter in "%$\"'\\;" for letter in str(program)):
        raise McrError(f"{program!s} has characters that a unit cannot have: install mcr elsewhere")
    for path in (program, program.resolve(), Path(sys.executable).resolve(), Path(__file__)):
        for hidden in _HIDDEN:
            if path.is_relative_to(hidden):
                raise McrError(
                    f"{path} is below {hidden}, which the service cannot see (ProtectHome,"
                    " PrivateTmp); install mcr in a venv such as /opt/mcr"
                )
    return program


def systemd_version() -> int | None:
    """The version of systemd on this host, such as 252; None if it cannot be found out."""
    try:
        shown = subprocess.run(
            ["systemctl", "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_VERSION_S,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.match(r"systemd (\d{1,5})\b", shown)
    return None if found is None else int(found[1])


def installation_steps(files: Mapping[Path, ServiceFile], prefix: Path) -> list[FileStep]:
    """The steps that install the files below a directory; a configuration is kept as it is.

    Raises:
        OSError: a file that exists cannot be read.
    """
    return [_installation_step(_below(prefix, path), file) for path, file in files.items()]


def removal_steps(files: Mapping[Path, ServiceFile], prefix: Path) -> list[FileStep]:
    """The steps that remove the files which exist; a configuration is kept."""
    return [
        FileStep("keep" if file.is_configuration else "remove", target)
        for path, file in files.items()
        if (target := _below(prefix, path)).exists()
    ]


def run_steps(steps: list[FileStep]) -> Iterator[FileStep]:
    """Perform each step, then yield it.

    Raises:
        OSError: a file cannot be written or removed; it is as before, and so are all after it.
    """
    for step in steps:
        if step.action in ("write", "replace"):
            _write(step.path, step.text)
        elif step.action == "remove":
            step.path.unlink()
        yield step


def _below(prefix: Path, path: Path) -> Path:
    return prefix / path.relative_to("/")


def _installation_step(target: Path, file: ServiceFile) -> FileStep:
    if not target.exists():
        return FileStep("write", target, file.text)
    if target.read_text() == file.text:
        return FileStep("unchanged", target)
    return FileStep("keep" if file.is_configuration else "replace", target, file.text)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text, mode=0o644)
