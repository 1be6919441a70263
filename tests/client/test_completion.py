"""What shells complete, and the manual pages: both made of the help."""

import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main
from tests.support.fake_supervisor import FakeSupervisor
from typer.core import TyperGroup

import mcr
from mcr.cli import application, main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def script(capsys: Capture) -> str:
    """The script for bash."""
    assert main(["completion", "bash"]) == 0
    return capsys.readouterr().out


def completed(script: str, *words: str) -> set[str]:
    """What bash offers for the last of these words, while the daemon has two rules."""
    line = " ".join(f"'{word}'" for word in ("mcr", *words))
    last = f"'{words[-1]}' '{('mcr', *words)[-2]}'"
    ask = f"COMP_WORDS=({line}); COMP_CWORD={len(words)}; _mcr mcr {last} 2>/dev/null"
    rules = "mcr() { echo feed-a; echo feed-b; }"
    done = subprocess.run(
        ["bash", "-c", f'{script}\n{rules}\n{ask}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_bash_completes_commands_options_names_and_interfaces(script: str) -> None:
    """Each where the command line accepts it."""
    assert completed(script, "ru") == {"rule"}
    assert {"add", "edit", "list"} <= completed(script, "rule", "")
    assert completed(script, "rule", "edit", "fe") == {"feed-a", "feed-b"}
    assert completed(script, "rule", "edit", "feed-b") == {"feed-b"}
    assert completed(script, "rule", "edit", "feed-a", "--set-") == {"--set-output"}
    assert completed(script, "--socket", "x", "stats", "--sort", "l") == {"loss", "last-seen"}
    assert completed(script, "doctor", "--interface", "l") >= {"lo"}
    assert completed(script, "relay", "239.1.1.1%l") >= {"239.1.1.1%lo"}
    assert completed(script, "relay", "fe") == set()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_their_script(shell: str, capsys: Capture) -> None:
    """It names every command; where the shell is installed, it parses the script."""
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert all(f" {name}" in text for name in ("rule", "edit", "streams"))
    if (program := shutil.which(shell)) is not None:
        subprocess.run([program, "-n"], input=text, text=True, check=True)


def test_the_rules_of_the_daemon(control: FakeSupervisor, capsys: Capture) -> None:
    """By name, else by id; none without a daemon."""
    with mcr.Client(control.path) as client:
        client.add_rules(
            [
                "239.1.1.1%lo:5001,name=feed-a to 127.0.0.1:7001",
                "239.1.1.2%lo:5001 to 127.0.0.1:7002",
            ]
        )
        ids = [rule.name or rule.id for rule in client.rules()]
    assert main(["completion", "--rules", "--socket", str(control.path)]) == 0
    assert capsys.readouterr().out.split() == ids
    assert main(["completion", "--rules", "--socket", "/nowhere"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["completion"]) == 2


def test_each_command_has_a_manual_page(tmp_path: Path, capsys: Capture) -> None:
    """With its options and examples, and without anything that groff does not understand."""
    assert main(["man", "--directory", str(tmp_path)]) == 0
    root = typer.main.get_command(application())
    assert isinstance(root, TyperGroup)
    pages = {path.name: path for path in tmp_path.iterdir()}
    assert {f"mcr-{name}.1" for name in root.commands} | {"mcr.1", "mcr-rule-edit.1"} <= {*pages}
    text = pages["mcr-rule-edit.1"].read_text()
    assert all(
        each in text for each in (".SH EXAMPLES", "\\-\\-set\\-output", ".BR mcr\\-rule (1)")
    )
    assert main(["man", "rule", "edit"]) == 0
    assert capsys.readouterr().out == text
    assert main(["man", "nothing"]) == 2
    if (groff := shutil.which("groff")) is not None:
        done = subprocess.run(
            [groff, "-man", "-ww", "-z", *map(str, pages.values())],
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert done.stderr == ""
