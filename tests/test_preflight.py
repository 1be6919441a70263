"""The check of the machine before a build reports everything that is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PREFLIGHT = Path(__file__).parents[1] / "scripts" / "preflight"


def preflight(
    path: str, *targets: str, script: Path = PREFLIGHT, ci: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run the script as make does, with another search path."""
    environment = {**os.environ, "PATH": path, "PYTHON": "python3", "CI": "true" if ci else ""}
    command = ["/bin/sh", str(script), *targets]
    return subprocess.run(
        command,
        env=environment,
        cwd=PREFLIGHT.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )


def bare_machine(directory: Path) -> Path:
    """A machine with the requirements of the README only; runs the script there."""
    for tool in ("awk", "cargo", "cc", "rustc"):
        found = shutil.which(tool)
        assert found is not None
        (directory / tool).symlink_to(found)
    (directory / "python3").symlink_to(sys.executable)
    (directory / "id").write_text("#!/bin/sh\necho 0\n")
    (directory / "id").chmod(0o755)
    script = directory / "preflight"
    text = PREFLIGHT.read_text()
    assert ":/usr/sbin:/sbin" in text
    script.write_text(text.replace(":/usr/sbin:/sbin", ""))
    return script


def test_everything_missing_is_one_line(tmp_path: Path) -> None:
    """The compilers and Python together, with the command that installs them."""
    for tool in ("awk", "id"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    run = preflight(str(tmp_path), "test", "demo")
    assert run.returncode == 1
    line = run.stderr.removesuffix("\n")
    assert "\n" not in line
    assert line.startswith("missing: cc, python3, venv, cargo and rustc 1.88 or newer; ")
    assert "run: apt-get install gcc libc6-dev python3 python3-venv" in line


def test_a_complete_machine_has_no_output() -> None:
    """Where a build is possible the script is silent."""
    run = preflight(os.environ["PATH"], "build")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_the_requirements_of_the_readme_are_enough(tmp_path: Path) -> None:
    """Root without iproute2 sees which tests are skipped, and nothing fails."""
    script = bare_machine(tmp_path)
    run = preflight(str(tmp_path), "demo", "test", script=script)
    assert run.returncode == 0, run.stderr
    assert "tests with network namespaces are left out" in run.stderr
    assert "apt-get install iproute2" in run.stderr


def test_ci_skips_nothing(tmp_path: Path) -> None:
    """There the same machine is refused, as all tests have to run."""
    script = bare_machine(tmp_path)
    run = preflight(str(tmp_path), "test", script=script, ci=True)
    assert run.returncode == 1
    command = "apt-get install iproute2 nftables ethtool tshark nats-server openssl"
    missing = "ip, tc, nft, ethtool, tshark, nats-server, openssl"
    assert run.stderr == f"missing: {missing}; run: {command}\n"


def test_root_installs_what_is_missing_once(tmp_path: Path) -> None:
    """Where apt-get exists; what it does not bring is reported as without it."""
    script = bare_machine(tmp_path)
    for name in ("ip", "tc", "nft", "ethtool", "tshark", "nats-server", "openssl"):
        write_program(tmp_path / name, "exit 0")
    (tmp_path / "tc").chmod(0o644)
    bring = f'[ "$1" = update ] || {{ echo "$*" >>{tmp_path}/asked; %s; }}'
    write_program(tmp_path / "apt-cache", "echo")
    write_program(tmp_path / "apt-get", bring % f"/bin/chmod 755 {tmp_path}/tc")
    run = preflight(str(tmp_path), "demo", "test", script=script)
    assert (run.returncode, run.stderr) == (0, "installing iproute2\n")
    asked = (tmp_path / "asked").read_text()
    assert asked == "install --yes -qq --no-install-recommends iproute2\n"
    (tmp_path / "tc").chmod(0o644)
    write_program(tmp_path / "apt-get", "exit 100")
    run = preflight(str(tmp_path), "test", script=script)
    assert run.returncode == 0
    assert "tests with network namespaces are left out" in run.stderr


def write_program(path: Path, text: str) -> None:
    """A program of the shell."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
