"""The commands for configurations: what they show, change, write and refuse."""

import json
from pathlib import Path

import pytest
from tests.support.fake_supervisor import FakeSupervisor

import mcr
from mcr.cli import main
from mcr.config import schema

from .test_commands import A, B, Command, command

__all__ = ["command"]
NEW_A = A.replace("7001", "7009")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration of one rule."""
    path = tmp_path / "mcr.toml"
    path.write_text(f'rules = ["{A}"]')
    return path


def test_a_configuration_is_planned_and_applied(
    command: Command, control: FakeSupervisor, revision: int, file: Path
) -> None:
    """The plan changes nothing; rules that clients have added stay, but for --prune."""
    with mcr.Client(control.path) as client:
        client.add_rule(B)
        plan = command("plan", str(file))
        assert plan.splitlines() == [
            f"+ {A}",
            "1 added, 0 changed, 0 removed, 0 unchanged",
            f"= {B}: added at run time, stays",
            f"revision {revision + 1} (nothing has changed)",
        ]
        assert command("apply", str(file), "--dry-run") == plan
        command("apply", str(file), code=2)
        assert (
            "'--yes': is needed without a terminal to ask on; add it, or --dry-run;" in command.err
        )
        assert client.rules().revision == revision + 1
        command("apply", str(file), "--yes")
        assert [(rule.rule, rule.origin) for rule in client.rules()] == [(A, "file"), (B, "client")]
        client.disable_rule("feed-a")
        shown = command("plan", str(file)).splitlines()
        assert shown[1] == f"= {A} (disabled): changed at run time, stays so"
        client.enable_rule("feed-a")
        file.write_text(json.dumps({"rules": [{"rule": NEW_A}]}))
        assert command("apply", str(file), "--yes", "--prune").splitlines() == [
            f"~ {A}",
            f"    becomes {NEW_A}",
            f"- {B}",
            "0 added, 1 changed, 1 removed, 0 unchanged",
            f"revision {revision + 5}",
        ]


def test_an_answer_counts_for_the_plan_only(
    command: Command,
    control: FakeSupervisor,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No leaves everything; yes is refused if the rules have changed meanwhile."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    def answer(yes: bool) -> bool:
        with mcr.Client(control.path) as client:
            client.add_rule(B)
        return yes

    monkeypatch.setattr("typer.confirm", lambda *_args, **_more: False)
    command("apply", str(file))
    monkeypatch.setattr("typer.confirm", lambda *_args, **_more: answer(True))
    assert main(["apply", str(file), "--socket", str(control.path)]) == 1
    assert "nothing has changed" in capsys.readouterr().err
    with mcr.Client(control.path) as client:
        assert [rule.rule for rule in client.rules()] == [B]


def test_what_is_saved_is_what_runs(
    command: Command, control: FakeSupervisor, tmp_path: Path
) -> None:
    """It is shown the same, checked without a mistake, and applying it changes nothing."""
    saved = tmp_path / "saved.toml"
    named = {
        "input": {"address": "239.1.1.3", "port": 5, "interface": "a=b"},
        "outputs": [{"address": "127.0.0.1", "port": 7}],
    }
    with mcr.Client(control.path) as client:
        client.add_rules([A, {"rule": B, "enabled": False}, named])
    assert command("config", "save", str(saved)) == f"{saved}: written\n"
    assert saved.read_text() == command("config", "show")
    assert "3 unchanged" in command("apply", str(saved), "--yes")
    assert command("check", str(saved)) == f"{saved}: 3 rules, no mistake\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved.toml"]


def test_a_file_that_is_saved_over_is_kept(
    command: Command, control: FakeSupervisor, file: Path
) -> None:
    """Under another name, with its comments; a second time nothing changes."""
    file.write_text("# by hand\n")
    file.chmod(0o640)
    kept = file.with_name("mcr.toml.old")
    kept.write_text("older")
    assert command("config", "save", str(file)) == f"{file}: replaced; what it had is in {kept}\n"
    assert (kept.read_text(), file.stat().st_mode & 0o777) == ("# by hand\n", 0o640)
    assert command("config", "save", str(file)) == f"{file}: unchanged\n"
    assert kept.read_text() == "# by hand\n"
    assert len(list(file.parent.iterdir())) == 2


def test_mistakes_are_told_with_their_place(command: Command, file: Path) -> None:
    """Those that the file shows, and those that the rules make beside each other."""
    file.write_text(f'rules = [\n"{A}",\n"{B},ttl=0",\n]')
    for name in ("check", "plan"):
        command(name, str(file), code=2)
        assert f"mcr: {file}:3, rule 2, output 2, ttl: 0 is out of range: 1 to 255" in command.err
    file.write_text(f'rules = [\n"{A}",\n"{A}",\n]')
    for name in ("check", "plan"):
        command(name, str(file), code=2)
        assert f"{file}:3, rule 2 (feed-a): is the same as rule 1; omit one" in command.err
    command("reload", code=2)
    assert "the daemon has no configuration file; start it with --config FILE" in command.err


def test_a_file_that_cannot_be_checked(
    control: FakeSupervisor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no rule either, and the line says what else it is not."""
    missing, other = str(tmp_path / "none.toml"), str(tmp_path / "mcr.conf")
    Path(other).touch()
    for argument, hint in (
        (missing, f"; there is no file {missing!r} either"),
        ("none.json", "; there is no file 'none.json' either"),
        (other, "; a configuration file has a name in .toml or .json"),
        ("feed-x", ""),
    ):
        assert main(["check", argument, "--socket", str(control.path)]) == 3
        told = f"MCR UNKNOWN: there is no rule with the id or name {argument!r}{hint}\n"
        assert capsys.readouterr().out == told


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """As in docs/."""
    assert main(["config", "schema"]) == 0
    assert capsys.readouterr().out == schema.text()
