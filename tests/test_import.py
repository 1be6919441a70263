"""`import mcr` stays cheap, and the package exports what it says."""

import statistics
import subprocess
import sys
import time

import pytest

import mcr

LIMIT_S = 0.05
HEAVY = ("pydantic", "rich", "typer", "asyncio", "mcr.cli")


def _run_s(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    return time.perf_counter() - began


def test_import_is_quick() -> None:
    """A program that only wants one relay does not wait for the package."""
    _run_s("import mcr")  # fills the page cache and writes the byte code
    pairs = [_run_s("import mcr") - _run_s("pass") for _ in range(9)]
    assert statistics.median(pairs) < LIMIT_S


@pytest.mark.parametrize("module", HEAVY)
def test_import_loads_nothing_heavy(module: str) -> None:
    """The command line's libraries stay with the command line."""
    code = f"import sys, mcr; sys.exit({module!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_public_names_exist_and_are_documented() -> None:
    """`__all__` is the API: every name is there, sorted, and has a docstring."""
    assert mcr.__all__ == sorted(mcr.__all__)
    assert [name for name in mcr.__all__ if not getattr(mcr, name).__doc__] == []
