"""Documents as data: their code blocks, commands, rules and links."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "bench/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
MCR = Path(sys.executable).with_name("mcr")
TIMEOUT_S = 60
_SHELL = """
mcr() {
    case $1 in
        send) "$MCR" "$@" ;;
        *) "$MCR" "$@" --socket "$SOCKET" ;;
    esac
}
"""
"""The command as a shell finds it, but for the place of the daemon."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Page:
    """A document, or a section of one."""

    text: str

    @classmethod
    def read(cls, name: str) -> "Page":
        """Read a document by its path from the top of the repository."""
        return cls((ROOT / name).read_text())

    def section(self, heading: str) -> "Page":
        """Return one section of the second level."""
        (text,) = re.findall(rf"^## {heading}\n.*?(?=^## |\Z)", self.text, re.M | re.S)
        return Page(text)

    def blocks(self, language: str) -> list[str]:
        """Return the code blocks of one language; there must be at least one."""
        found = [text for name, text in FENCE.findall(self.text) if name == language]
        assert found, f"no {language} block"
        return found

    def sessions(self) -> list[tuple[str, list[str]]]:
        """Return each command of the `console` blocks, with the output that the document shows."""
        typed: list[tuple[str, list[str]]] = []
        for line in "".join(self.blocks("console")).splitlines():
            if line.startswith("$ "):
                typed.append((line[2:], []))
            else:
                typed[-1][1].append(line)
        return typed

    def prose(self) -> list[str]:
        """Return the lines outside code blocks, headings and tables."""
        text = FENCE.sub("", self.text)
        return [line for line in text.splitlines() if not line.startswith(("#", "|", "    "))]


def run_in_shell(
    block: str, socket: Path, *, errors: int = subprocess.PIPE
) -> "subprocess.CompletedProcess[str]":
    """Run what a document has its reader type, against the daemon with this socket.

    It ends with the first command that fails. `errors` is where standard error goes.
    """
    return subprocess.run(
        ["/bin/sh", "-e", "-c", f"{_SHELL}{block}"],
        env={**os.environ, "MCR": str(MCR), "SOCKET": str(socket)},
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def commands(program: str, texts: list[str]) -> list[list[str]]:
    """Return the command lines of one program, split as a shell would, without its name."""
    lines = (shlex.split(line) for text in texts for line in text.splitlines())
    return [words[1:] for words in lines if words[0] == program]


def shape(line: str) -> str:
    """Return the parts that are equal in each run: numbers, addresses and identifiers differ."""
    without_ids = re.sub(r"\b[0-9a-f]{12}\b", "#", line)
    return " ".join(re.sub(r"\d[\d.,:]*", "#", without_ids).split())


def assert_printed(shown: list[str], printed: str) -> None:
    """Check that the lines of a document were printed, in this order, with any numbers."""
    lines = iter(shape(line) for line in printed.splitlines())
    for line in shown:
        assert shape(line) in lines, f"{line!r} is not in:\n{printed}"
