"""`mcr install-service`: what it writes, keeps, removes and refuses."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mcr.cli import main
from mcr.cli.config_file import read_configuration
from mcr.cli.configuration_check import check_configuration
from mcr.errors import McrError
from mcr.service.files import unit_text
from mcr.service.installation import installed_program, systemd_version
from mcr.text_file import put_text, replace_text

PROGRAM = "/opt/mcr/bin/mcr"
UNIT = "etc/systemd/system/mcr.service"
CONFIGURATION = "etc/mcr/mcr.toml"
MOST_EXPOSURE = 3.0  # 2.9 by systemd 252


def install(prefix: Path, *options: str) -> int:
    """Run the command below a directory."""
    program = () if "--uninstall" in options else ("--program", PROGRAM)
    return main(["install-service", "--prefix", str(prefix), *program, *options])


def files(prefix: Path) -> set[str]:
    """The files below a directory."""
    return {str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file()}


def test_installs_once_and_removes_all_but_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run changes nothing; an edited configuration is kept by all runs."""
    assert install(tmp_path, "--dry-run") == 0
    assert files(tmp_path) == set()
    assert install(tmp_path) == 0
    written = files(tmp_path)
    assert {UNIT, CONFIGURATION, "etc/sysusers.d/mcr.conf", "etc/tmpfiles.d/mcr.conf"} < written
    assert len(written) == 7
    assert check_configuration(read_configuration(str(tmp_path / CONFIGURATION))) == ()
    assert stat.S_IMODE((tmp_path / UNIT).stat().st_mode) == 0o644
    capsys.readouterr()
    (tmp_path / CONFIGURATION).write_text("rules = []\n")
    (tmp_path / UNIT).write_text("old\n")
    assert install(tmp_path) == 0
    actions = [line.split()[0] for line in capsys.readouterr().out.splitlines()[:7]]
    assert actions == ["replace", *["unchanged"] * 2, "keep", *["unchanged"] * 3]
    assert (tmp_path / UNIT).read_text() == unit_text(Path(PROGRAM))
    assert install(tmp_path, "--uninstall") == 0
    assert files(tmp_path) == {CONFIGURATION}
    assert (tmp_path / CONFIGURATION).read_text() == "rules = []\n"


def systemctl(directory: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a systemctl of this version before the one of this host."""
    program = directory / "systemctl"
    program.write_text(f"#!/bin/sh\necho '{version}'\necho '+PAM +AUDIT'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("systemd 252 (252.39-1~deb12u1)", "notify"),
        ("systemd 253 (253-1)", "notify-reload"),
        ("systemd 257~rc2-3 (257~rc2-3)", "notify-reload"),
        ("strange", "notify"),
    ],
)
def test_the_unit_fits_the_version_of_systemd(
    version: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A reload by signal is one of 253; a package, which may meet any version, has none of it."""
    systemctl(tmp_path, version, monkeypatch)
    assert main(["install-service", "--print", "--program", PROGRAM]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("Type=")] == [f"Type={kind}"]
    assert ("ReloadSignal=SIGCONT" in lines) == (kind == "notify-reload")
    assert f"ExecReload={PROGRAM} reload" in lines
    assert install(tmp_path / "package") == 0
    assert "Type=notify\n" in (tmp_path / "package" / UNIT).read_text()


def test_the_unit_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version is unknown then."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert systemd_version() is None


def test_prints_the_unit_of_the_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example is what the command installs on Debian 12."""
    systemctl(tmp_path, "systemd 252", monkeypatch)
    assert main(["install-service", "--print", "--program", PROGRAM]) == 0
    example = Path(__file__).parents[1] / "examples/mcr.service"
    assert capsys.readouterr().out == example.read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
@pytest.mark.parametrize("version", [252, 253])
def test_systemd_accepts_the_unit(version: int, tmp_path: Path) -> None:
    """Every key and value, as far as the version of this host knows them."""
    unit = tmp_path / "mcr.service"
    unit.write_text(unit_text(Path("/bin/true"), version))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    said = [line for line in done.stderr.splitlines() if str(unit) in line or "mcr.service" in line]
    if version > (systemd_version() or 0):
        said = [line for line in said if "notify-reload" not in line and "ReloadSignal" not in line]
    assert said == []


def test_refuses_a_program_that_the_service_cannot_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason; nothing is written."""
    assert install(tmp_path, "--program", "bin/mcr") == 2
    with pytest.raises(McrError, match=r"is not a program"):
        installed_program(str(tmp_path / "mcr"))
    hidden = tmp_path / "mcr"  # pytest's directory is below /tmp
    hidden.touch(0o755)
    if tmp_path.is_relative_to("/tmp"):
        with pytest.raises(McrError, match=r"the service cannot see .*; install mcr in a venv"):
            installed_program(str(hidden))
    spaced = tmp_path / "m c r"
    spaced.touch(0o755)
    with pytest.raises(McrError, match=r"characters that a unit cannot have"):
        installed_program(str(spaced))
    assert not (tmp_path / "etc").exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
def test_systemd_finds_the_service_confined(tmp_path: Path) -> None:
    """The exposure by systemd-analyze, without a running systemd."""
    unit = tmp_path / "mcr.service"
    unit.write_text(unit_text(Path("/bin/true")))
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True).stdout
    (level,) = re.findall(r"exposure level for mcr\.service: ([\d.]+)", shown)
    assert float(level) <= MOST_EXPOSURE, shown


class TestReplaceText:
    """Files of operators that a command writes again."""

    def test_keeps_mode_and_owner(self, tmp_path: Path) -> None:
        """Of a file that exists, also behind a link; a new file is private."""
        path, link = tmp_path / "mcr.toml", tmp_path / "link.toml"
        replace_text(path, "a")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o640)
        link.symlink_to(path)
        replace_text(link, "b")
        assert (link.is_symlink(), path.read_text()) == (True, "b")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert files(tmp_path) == {"mcr.toml", "link.toml"}

    def test_a_put_file_is_a_new_one(self, tmp_path: Path) -> None:
        """A link is replaced itself, and the new file has the mode that was given."""
        path, link = tmp_path / "own.json", tmp_path / "link.json"
        path.write_text("a")
        link.symlink_to(path)
        put_text(link, "b", mode=0o644)
        assert (link.is_symlink(), link.read_text(), path.read_text()) == (False, "b", "a")
        assert stat.S_IMODE(link.stat().st_mode) == 0o644

    @pytest.mark.skipif(os.geteuid() != 0, reason="a small file system takes root")
    def test_a_full_disk_leaves_the_old_files(self, tmp_path: Path) -> None:
        """Of a configuration and of the state; and no temporary file."""
        mounted = 'mount -t tmpfs -o size=16k none "$0" && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", mounted, str(tmp_path)]
        run = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
        done = subprocess.run([*command, *run], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "28 28\n['mcr.toml', 'rules'] old old\n"


FULL_DISK = """
import os, sys
from pathlib import Path
from mcr.daemon.supervisor import atomic_file
from mcr.text_file import replace_text

directory = Path(sys.argv[1])
path, state = directory / "mcr.toml", directory / "rules"
path.write_text("old")
state.write_text("old")
content = "x" * 60_000
memory = os.memfd_create("state")
os.write(memory, content.encode())
codes = []
for write in (
    lambda: replace_text(path, content),
    lambda: atomic_file.save(memory, len(content), state),
):
    try:
        write()
    except OSError as error:
        codes.append(error.errno)
print(*codes)
print(sorted(os.listdir(directory)), path.read_text(), state.read_text())
"""
