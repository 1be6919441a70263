"""Compiles the small C programs that send, relay and time, anew for every run of the bench."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

from .failure import BenchError

SOURCES = Path(__file__).parent / "peers"
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of the compiled programs."""

    one_by_one: str
    sender: str
    latency_send: str
    latency_receive: str


@contextmanager
def compiled() -> Iterator[Programs]:
    """Compile into a temporary directory, which goes with the context.

    Raises:
        BenchError: no C compiler, or it refused a program.
    """
    compiler = which("cc") or which("gcc")
    if compiler is None:
        raise BenchError("no C compiler: apt-get install gcc")
    with TemporaryDirectory(prefix="mcr-bench-") as folder:
        names = Programs.__dataclass_fields__
        yield Programs(**{name: _compile(compiler, name, Path(folder)) for name in names})


def _compile(compiler: str, name: str, folder: Path) -> str:
    target = folder / name
    command = [compiler, *FLAGS, "-o", str(target), str(SOURCES / f"{name}.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{name}.c does not compile: {done.stderr.strip()}")
    return str(target)
