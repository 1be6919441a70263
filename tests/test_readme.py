"""What the README shows works as it stands there."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.topology.daemons import serving

import mcr

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.M | re.S)
MCR = Path(sys.executable).with_name("mcr")
TIMEOUT_S = 30
DAEMON = {"rule", "stats", "events", "workers"}
"""The commands that ask a daemon."""
SHELL = """
mcr() {
    case $1 in
        send) "$MCR" "$@" ;;
        *) "$MCR" "$@" --socket "$SOCKET" ;;
    esac
}
"""
"""The command as a shell finds it, but for the place of the daemon."""


def blocks(language: str) -> list[str]:
    """The code blocks of one language."""
    found = [text for name, text in BLOCKS if name == language]
    assert found, f"no {language} block left in the README"
    return found


def commands(program: str, texts: list[str] | None = None) -> list[list[str]]:
    """The command lines of one program, split as a shell would, in these blocks or in all."""
    parts = blocks("sh") if texts is None else texts
    lines = (shlex.split(line) for text in parts for line in text.splitlines())
    return [words[1:] for words in lines if words[0] == program]


@pytest.fixture
def daemon_socket() -> Iterator[Path]:
    """The socket of a daemon without rules."""
    with serving(None, "--ingress", "udp") as daemon:
        yield daemon.socket


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code: str, daemon_socket: Path) -> None:
    """The Python examples need no rights; the one that asks a daemon asks that of the test."""
    placed = code.replace("mcr.Client()", f"mcr.Client({str(daemon_socket)!r})")
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", placed],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "feed-b joined, no frame seen on lo" in run.stdout


def test_the_daemon_section(daemon_socket: Path) -> None:
    """What a new user types, in that order: each command succeeds, and shows what it should."""
    section = re.findall(r"^## As a daemon$.*?^## ", README, re.M | re.S)[0]
    serve, use, break_it, kill = re.findall(r"^```sh\n(.*?)^```$", section, re.M | re.S)
    assert serve == "mcr serve\n"
    assert {words[0] for words in commands("mcr", [use, break_it, kill])} == DAEMON | {"send"}

    def typed(block: str) -> str:
        run = subprocess.run(
            ["/bin/sh", "-e", "-c", f"{SHELL}{block}"],
            env={**os.environ, "MCR": str(MCR), "SOCKET": str(daemon_socket)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    shown = typed(use)
    assert "feed-a" in shown
    assert "flowing from " in shown
    # What is inside a worker when it is killed is lost.
    assert re.search("matched (199[0-9]|2000),", shown)
    shown = typed(break_it)
    assert shown.count("rule feed-a was ") == 3
    assert "no       disabled" in shown
    shown = typed(kill)
    assert "killed by SIGKILL" in shown
    matched = int(re.findall(r"matched (\d+) \(", shown)[0])
    assert 2000 < matched <= 6000
    assert "removed " in shown


def test_the_configuration_is_one(tmp_path: Path) -> None:
    """A daemon begins with the file as it stands there, but for the interfaces."""
    (text,) = blocks("toml")
    config = tmp_path / "rules.toml"
    config.write_text(text.replace("%eth0", "%lo").replace("%eth1", "%lo"))
    with (
        serving(None, "--ingress", "udp", "--config", str(config)) as daemon,
        daemon.client() as client,
    ):
        assert [(rule.name, rule.enabled) for rule in client.rules()] == [
            ("feed-a", True),
            (None, False),
        ]


@pytest.mark.parametrize("text", [line for text in blocks("text") for line in text.splitlines()])
def test_rules_are_read(text: str) -> None:
    """Each rule of the README is a rule, and means the same when it is written again."""
    rule = mcr.Rule.parse(text)
    assert mcr.Rule.parse(str(rule)) == rule


def test_make_targets_exist() -> None:
    """The commands of the quick start are there."""
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.M)
    assert commands("make") == [["demo"], ["test"]]
    assert {"demo", "test"} <= set(targets)


def test_three_terminals() -> None:
    """What is sent arrives at the receiver through the relay, as the command lines say."""
    lines = {words[0]: words for words in reversed(commands("mcr"))}  # the first of each
    assert set(lines) == {"receive", "relay", "send", "serve", *DAEMON}
    with (
        started([*lines["relay"], "--ingress", "udp"], ready="ready") as relay,
        started([*lines["receive"], "--duration", "60"], ready="receiving") as receive,
    ):
        seconds = lines["send"].index("--duration") + 1
        send = [*lines["send"][:seconds], "0.2", *lines["send"][seconds + 1 :]]
        subprocess.run([MCR, *send], check=True, capture_output=True, timeout=TIMEOUT_S)
        receive.terminate()
        report, _ = receive.communicate(timeout=TIMEOUT_S)
        assert "200" in report
        relay.terminate()
        relay.communicate(timeout=TIMEOUT_S)
        assert relay.returncode == 0


@contextlib.contextmanager
def started(command: list[str], ready: str) -> Iterator[subprocess.Popen[str]]:
    """Run `mcr` with these arguments; the block begins when it has said that it is ready."""
    pipe = subprocess.PIPE
    with subprocess.Popen([MCR, *command], stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stderr is not None
            assert any(ready in line for line in process.stderr), f"{command} ended early"
            yield process
        finally:
            process.kill()
