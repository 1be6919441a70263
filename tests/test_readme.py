"""The README is short, and its commands and programs work and print what it shows."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.documents import ROOT, Page, assert_printed, commands
from tests.topology.daemons import serving

import mcr

README = Page.read("README.md")
MCR = Path(sys.executable).with_name("mcr")
TIMEOUT_S = 30
LINES = 150
RULES = [
    rule for rule in re.findall(r"`([^`]+)`", README.section("Rules").text) if "[" not in rule[:1]
]


def test_it_is_short() -> None:
    """It can be read in a minute."""
    assert len(README.text.splitlines()) <= LINES


def test_the_python_program() -> None:
    """It needs no rights, and prints what the README shows."""
    section = README.section("Python")
    (code,), (shown,) = section.blocks("python"), section.blocks("text")
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert_printed(shown.splitlines(), run.stdout)
    assert "feed-b joined, no frame seen on lo" in run.stdout


@pytest.mark.parametrize("text", RULES)
def test_rules_are_read(text: str) -> None:
    """Each rule of the README is valid, and its canonical text means the same."""
    rule = mcr.Rule.parse(text)
    assert mcr.Rule.parse(str(rule)) == rule


def test_every_row_of_the_rules_has_one() -> None:
    """The test above skips no row."""
    rows = re.findall(r"^\| .* \| `", README.section("Rules").text, re.M)
    assert len(rows) == len(RULES) >= 7


def test_make_targets_exist() -> None:
    """The two commands that a newcomer runs are there."""
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.M)
    assert commands("make", README.blocks("sh")) == [["demo"], ["test"]]
    assert {"demo", "test"} <= set(targets)


def test_three_terminals() -> None:
    """The stream arrives through the relay, and each command prints what is shown."""
    shown = dict(README.section("Try it").sessions())
    lines = {words[0]: words for words in commands("mcr", list(shown))}
    printed = {name: shown[f"mcr {' '.join(words)}"] for name, words in lines.items()}
    assert list(lines) == ["receive", "relay", "send"]
    with (
        started([*lines["relay"], "--ingress", "udp"], ready="ready") as relay,
        started(lines["receive"], ready="receiving") as receive,
    ):
        send = subprocess.run(
            [MCR, *lines["send"]],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert_printed(printed["send"], send.stdout)
        assert_printed(printed["relay"], relay())
        report = receive()
        assert_printed(printed["receive"], report)
        assert "received 5,000 datagrams" in report


def test_the_daemon() -> None:
    """A daemon starts and gets a rule, and each command prints what is shown."""
    (serve, ready), (add, added) = README.section("Daemon").sessions()
    assert serve == "mcr serve &"
    with serving(None, "--ingress", "udp") as daemon:
        place = ready[0].partition("socket ")[2].partition(",")[0]
        assert_printed([ready[0].replace(place, str(daemon.socket))], daemon.read_log())
        ((*words,),) = commands("mcr", [add])
        run = subprocess.run(
            [MCR, *words, "--socket", str(daemon.socket)],
            check=True,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert_printed(added, run.stdout)


@contextlib.contextmanager
def started(command: list[str], ready: str) -> Iterator["Ended"]:
    """Run `mcr` with these arguments; the block begins when it is ready."""
    pipe, merged = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen([MCR, *command], stdout=pipe, stderr=merged, text=True) as process:
        ended = Ended(process)
        try:
            ended.wait_for(ready)
            yield ended
        finally:
            process.kill()


class Ended:
    """Called, it ends a running command and returns its output."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._printed = ""

    def wait_for(self, text: str) -> None:
        """Read up to the line with this text."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._printed += line
            if text in line:
                return
        raise AssertionError(f"ended early: {self._printed}")

    def __call__(self) -> str:
        """End the command by SIGTERM, like Ctrl-C, with exit code 0."""
        self._process.terminate()
        rest, _ = self._process.communicate(timeout=TIMEOUT_S)
        assert self._process.returncode == 0
        return self._printed + rest
