"""Help: commands in groups, examples that can be run, and all options of rules."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperCommand, TyperGroup

from mcr import Rule
from mcr.cli import application, main
from mcr.cli import commands as commands_list
from mcr.rules.grammar import Noun, join_arguments, option_help
from mcr.rules.redundancy import MERGE_OPTIONS

ROOT = typer.main.get_command(application())
GROUPS = {
    "Relay and test": {"relay", "send", "receive"},
    "Daemon": {
        *("agent", "fleet", "serve", "config", "plan", "apply", "import", "reload"),
        *("ping", "log-level", "version", "shutdown"),
    },
    "Rules of the daemon": {"class", "flows", "interface", "rule", "stats", "top"},
    "Diagnose": {
        "web",
        "check",
        "doctor",
        "events",
        "explain",
        "streams",
        "trace",
        "capture",
        "workers",
        "interfaces",
    },
    "Service, shell and manual": {"install-service", "completion", "man"},
}
WITH_RULES = {"relay", "doctor", "rule add", "rule replace"}
COLUMNS = 80


def commands(group: object = ROOT, path: str = "") -> Iterator[tuple[str, TyperCommand]]:
    """All commands, by their words after `mcr`."""
    assert isinstance(group, TyperGroup)
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path}{name} ")
        else:
            assert isinstance(command, TyperCommand)
            yield f"{path}{name}", command


def top_level() -> dict[str, TyperCommand | TyperGroup]:
    """The commands and groups directly after `mcr`."""
    assert isinstance(ROOT, TyperGroup)
    return dict(ROOT.commands)  # type: ignore[arg-type]


COMMANDS = dict(commands())


def help_of(path: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The output of a command with --help."""
    assert main([*path.split(), "--help"]) == 0
    return capsys.readouterr().out


def examples_of(text: str) -> list[list[str]]:
    """The words of each example; a backslash continues a line."""
    block = text.partition("\nExamples:\n")[2].replace("\\\n", "")
    return [shlex.split(line) for line in block.splitlines()]


@pytest.fixture(autouse=True)
def pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No colours and no terminal, in a directory with the file that examples name."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.toml").touch()
    (tmp_path / "mcr.toml").touch()


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_commands_are_listed_in_groups(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each under its heading, with an untruncated summary."""
    assert main([option]) == 0
    sections = dict(re.findall(r"^(\w.*):\n((?:  .*\n)+)", capsys.readouterr().out, re.MULTILINE))
    for heading, names in GROUPS.items():
        assert set(re.findall(r"^  (\S+)", sections[heading], re.MULTILINE)) == names
        summaries = " ".join(sections[heading].split())
        assert summaries.count(".") == len(names)
        assert "..." not in summaries


def test_the_list_has_the_first_line_of_each_commands_help() -> None:
    """It has the lines without loading the commands."""
    listed = {name: entry.summary for name, entry in commands_list.COMMANDS.items()}
    own = {name: (command.help or "").partition("\n")[0] for name, command in top_level().items()}
    assert listed == own


def test_the_list_loads_no_command() -> None:
    """What commands need takes several times as long to load as the list."""
    look = (
        "import sys; from mcr.cli import main; main(['--help']);"
        " sys.exit(any(name in sys.modules for name in ('pydantic', 'mcr.client', 'mcr.relay')))"
    )
    subprocess.run([sys.executable, "-c", look], check=True, stdout=subprocess.DEVNULL)


def test_a_group_has_examples_too(capsys: pytest.CaptureFixture[str]) -> None:
    """The program itself and `mcr rule`."""
    for path in ("", "rule"):
        assert examples_of(help_of(path, capsys))


@pytest.mark.parametrize("path", COMMANDS)
def test_examples_are_valid(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Their options and rules; the command itself does not run."""
    examples = examples_of(help_of(path, capsys))
    assert examples
    for words in examples:
        assert words[: 1 + len(path.split())] == ["mcr", *path.split()]
        context = COMMANDS[path].make_context(path, words[1 + len(path.split()) :])
        for text in join_arguments(context.params["rules"] or []) if path in WITH_RULES else ():
            Rule.parse(text)


@pytest.mark.parametrize("path", COMMANDS)
def test_help_is_plain_text(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without control characters, and with lines that fit a terminal."""
    lines = help_of(path, capsys).splitlines()
    assert all(line.isprintable() and line.isascii() for line in lines)
    assert max(map(len, lines)) <= COLUMNS


@pytest.mark.parametrize("path", COMMANDS)
def test_commands_that_take_rules_list_their_options(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of inputs and of outputs, with their values."""
    text = help_of(path, capsys)
    nouns: tuple[Noun, ...] = ("input", "output")
    listed = all(f"  {each} " in text for noun in nouns for each, _ in option_help(noun))
    assert listed == (path in WITH_RULES)


@pytest.mark.parametrize("noun", ["input", "output"])
def test_options_accept_the_values_that_help_shows(noun: Noun) -> None:
    """Words and both ends of a range, and nothing beyond."""
    stand_ins = {"NAME": "a", "ADDRESS": "192.0.2.1", "AMOUNT": "2000"}
    for text, meaning in option_help(noun):
        key, _, values = text.partition("=")
        assert meaning
        for value in values.split("|"):
            first, dash, last = value.partition("-")
            for accepted in (first, last) if dash else (stand_ins.get(value, value),):
                parse(noun, f"{key}={accepted}")
            for refused in (int(first) - 1, int(last) + 1) if dash else ():
                with pytest.raises(ValueError, match=key):
                    parse(noun, f"{key}={refused}")


def parse(noun: Noun, option: str) -> Rule:
    """A rule with an option at one of its ends."""
    ends = ["239.1.0.0/24%eth0:5001", "239.2.0.1%eth1:6001"]
    needed = "rate=1mbit," if option.startswith(("burst=", "queue=", "pace=")) else ""
    ends[noun == "output"] += f",{needed}{option}"
    key = option.partition("=")[0]
    if key in MERGE_OPTIONS:
        by = {"merge": "", "after": "merge=failover,"}.get(key, "merge=rtp,")
        ends[0] = f"239.1.0.1%eth0:5001 + 239.1.0.1%eth2:5001,{by}{option}"
    return Rule.parse(" to ".join(ends))
