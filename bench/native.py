"""Compiles the small C programs that send, relay and time, anew for every run of the bench.

Two of them have a part that the kernel runs; these need clang and libbpf, and scenarios with
numbered datagrams need these.
"""

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
BPF_HEADER = Path("/usr/include/bpf/libbpf.h")


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of the compiled programs."""

    one_by_one: str
    merge_one_by_one: str
    sender: str
    latency_send: str
    latency_receive: str
    bpf: "BpfPrograms | None" = None


@dataclass(frozen=True, slots=True)
class BpfPrograms:
    """Paths of the programs that load a part into the kernel; that part is beside each, `.o`."""

    wire: str
    order_sink: str


def bpf_obstacle() -> str:
    """Give what is missing for programs with a part in the kernel; empty if nothing is."""
    packages = [] if which("clang") else ["clang"]
    packages += [] if BPF_HEADER.exists() else ["libbpf-dev"]
    return f"numbered datagrams need: apt-get install {' '.join(packages)}" if packages else ""


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
        names = [name for name in Programs.__dataclass_fields__ if name != "bpf"]
        paths = {name: _compile(compiler, name, Path(folder)) for name in names}
        bpf = None if bpf_obstacle() else _compile_bpf(compiler, Path(folder))
        yield Programs(**paths, bpf=bpf)


def _compile_bpf(compiler: str, folder: Path) -> BpfPrograms:
    # Debian keeps <asm/types.h> in a folder that clang does not search for this target.
    architecture = _run([compiler, "-print-multiarch"], "the compiler's architecture").strip()
    flags = ("-g", "-target", "bpf", f"-I/usr/include/{architecture}", "-c")
    names = BpfPrograms.__dataclass_fields__
    for name in names:
        target, source = folder / f"{name}.o", SOURCES / f"{name}.bpf.c"
        _run(["clang", *FLAGS, *flags, "-o", str(target), str(source)], source.name)
    return BpfPrograms(**{name: _compile(compiler, name, folder, "-lbpf") for name in names})


def _compile(compiler: str, name: str, folder: Path, *libraries: str) -> str:
    target, source = folder / name, SOURCES / f"{name}.c"
    _run([compiler, *FLAGS, "-o", str(target), str(source), *libraries], source.name)
    return str(target)


def _run(command: list[str], what: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{what} does not compile: {done.stderr.strip()}")
    return done.stdout
