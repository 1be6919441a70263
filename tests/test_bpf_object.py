"""The committed object of the relay in the kernel is that of its sources."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_object_is_reproduced() -> None:
    """Rebuilding it gives the same bytes; so what the wheel loads is what can be read."""
    if not (shutil.which("clang-14") and shutil.which("llvm-strip-14")):
        assert not os.environ.get("CI"), "CI must have Debian's clang-14 and llvm-14"
        pytest.skip("clang-14 or llvm-14 is not installed")
    script = ROOT / "scripts" / "bpf_object"
    done = subprocess.run([script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
