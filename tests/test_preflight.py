"""A machine that lacks something is told so before anything is built."""

import os
import shutil
import subprocess
from pathlib import Path

PREFLIGHT = Path(__file__).parents[1] / "scripts" / "preflight"


def preflight(path: str, *targets: str) -> subprocess.CompletedProcess[str]:
    """Run the script as make does, with another search path."""
    environment = {**os.environ, "PATH": path, "PYTHON": "python3"}
    command = ["/bin/sh", str(PREFLIGHT), *targets]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_everything_missing_stands_in_one_line(tmp_path: Path) -> None:
    """The compilers and Python are named together, with the command that installs them."""
    for tool in ("awk", "id"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    run = preflight(str(tmp_path), "test", "demo")
    assert run.returncode == 1
    line = run.stderr.removesuffix("\n")
    assert "\n" not in line
    assert line.startswith("missing: cc, python3, venv, cargo and rustc 1.88 or newer; ")
    assert "run: apt-get install gcc python3 python3-venv" in line


def test_a_complete_machine_is_told_nothing() -> None:
    """Where a build is possible the script is silent."""
    run = preflight(os.environ["PATH"], "build")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
