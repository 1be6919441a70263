"""What `mcr stats` and `mcr rule list` offer for many rules: patterns, order, pages, lines."""

import contextlib
import io
import os
import pty
import select
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.fake_supervisor import FakeSupervisor
from tests.support.screen import Screen

import mcr
from mcr.cli.terminal_table import as_red
from mcr.protocol.selection import has_problem
from mcr.protocol.summary import report
from mcr.stats import Alarm, OutputLoss, OutputStats, RuleStats, Stats

from .test_commands import MCR, Command, command, proxied_command

__all__ = ["command", "proxied_command"]

A = "239.1.1.1%lo:5001,name=A01 to 127.0.0.1:7001"
B = "239.1.1.2%lo:5001,name=A02 to 127.0.0.1:7002"
C = "239.1.1.3%lo:5001,name=B01 to 127.0.0.1:7003"
IDS = {text.split("name=")[1][:3]: mcr.Rule.parse(text).id for text in (A, B, C)}


def names(listed: str) -> list[str]:
    """The names in the lines of `mcr rule list` or `mcr stats`, in their order."""
    return [line.split()[1] for line in listed.splitlines() if line.split()[0] in IDS.values()]


def test_patterns(command: Command, control: FakeSupervisor) -> None:
    """They match names, ids and texts, where rules are only read."""
    command("rule", "add", C, A, B)
    assert names(command("rule", "list", "A0*")) == ["A01", "A02"]
    assert names(command("rule", "list", "?01", "A01")) == ["B01", "A01"]
    assert names(command("stats", f"{IDS['A02'][:6]}*")) == ["A02"]
    assert names(command("stats", "*7003")) == ["B01"]
    with mcr.Client(control.path) as client:
        assert [rule.name for rule in client.stats(["A0*"]).rules] == ["A01", "A02"]
        with pytest.raises(mcr.RuleError, match=r"A0\*"):
            client.remove_rules(["A0*"])
        with pytest.raises(mcr.RuleError, match=r"A0\*"):
            client.rule("A0*")
    command("stats", "X*", code=2)
    assert "'X*'" in command.err


def test_order_and_problems(command: Command, control: FakeSupervisor) -> None:
    """By name, by loss; only what is wrong now; the sums are those of the rules shown."""
    command("rule", "add", C, B, A)
    control.workers[0].counts = {IDS["A01"]: 7, IDS["A02"]: 7}
    control.workers[0].losses = {IDS["A02"]: 3}
    assert names(command("rule", "list", "--sort", "name")) == ["A01", "A02", "B01"]
    assert names(command("stats", "--sort", "name")) == ["A01", "A02", "B01"]
    assert names(command("stats", "--sort", "loss"))[0] == "A02"
    assert names(command("stats", "--only-problems")) == ["B01"]
    assert names(command("rule", "list", "--only-problems")) == ["B01"]
    found = command.json("stats", "--only-problems")
    assert ([rule["name"] for rule in found["rules"]], found["totals"]["sent"]) == (["B01"], 0)
    command("rule", "disable", "B01")
    assert command("rule", "list", "--only-problems") == "no rule has a problem\n"
    assert command.json("rule", "list", "--only-problems")["rules"] == []
    assert command.json("stats", "--only-problems")["rules"] == []


NOW = 1000.0
FLOWING = RuleStats("0" * 12, None, A, "flowing", 7, 700, (), "flowing")
OUTPUT = OutputStats("127.0.0.1:7001", "127.0.0.1", 7, 7, 700, 0, 0, {}, {})


@pytest.mark.parametrize(
    ("output", "has"),
    [
        (OUTPUT, False),
        (replace(OUTPUT, parked="eth1 is down"), True),
        (replace(OUTPUT, last_loss=OutputLoss(NOW - 1, "output_full", None)), True),
        (replace(OUTPUT, last_loss=OutputLoss(NOW - 60, "output_full", None)), False),
        (replace(OUTPUT, last_refused=NOW - 1), True),
        (replace(OUTPUT, last_refused=NOW - 60), False),
    ],
)
def test_only_what_is_wrong_now_is_a_problem(output: OutputStats, has: bool) -> None:
    """Neither a loss nor a refusal remains one."""
    rule = replace(FLOWING, outputs=(OUTPUT, output))
    assert has_problem(rule, NOW) == has
    assert has_problem(replace(rule, state_code="silent"), NOW)
    assert not has_problem(replace(rule, state_code="disabled"), NOW)


def test_a_rule_is_a_line_without_a_terminal(command: Command, control: FakeSupervisor) -> None:
    """With its losses by reason and its state; details on request."""
    command("rule", "add", A, B)
    control.workers[0].counts = {IDS["A01"]: 7}
    control.workers[0].losses = {IDS["A01"]: 2}
    lines = command("stats").splitlines()
    assert lines[1].startswith("2 rules at revision ")
    row = next(line for line in lines if line.startswith(IDS["A01"]))
    assert row.split()[:2] == [IDS["A01"], "A01"]
    assert f"  2(output_full=2)  {A}  " in row
    assert len(lines) == 3 + 1 + 2
    assert "127.0.0.1:7001: sent" in command("stats", "--details")


def test_long_output_has_a_pager(
    control: FakeSupervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal that is too small for it, unless it is not wanted."""
    with mcr.Client(control.path) as client:
        client.add_rules([f"239.1.2.{number}%lo:5001 to 127.0.0.1:7" for number in range(1, 60)])
    page = tmp_path / "page"
    monkeypatch.setenv("PAGER", f"sh -c 'cat > {page}'")
    shown = on_terminal(control, 24, "rule", "list")
    assert page.read_text().count("239.1.2.") == 59
    assert "239.1.2." not in shown
    page.unlink()
    for arguments in (("rule", "list", "--no-pager"), ("rule", "list", "239.1.2.7%*")):
        assert "239.1.2.7%lo" in on_terminal(control, 24, *arguments)
        assert not page.exists()
    monkeypatch.setenv("PAGER", "/no/such/pager")
    assert on_terminal(control, 24, "stats").count("rule ") >= 59


def on_terminal(control: FakeSupervisor, rows: int, *arguments: str) -> str:
    """What a command shows on a terminal."""
    own, theirs = pty.openpty()
    termios.tcsetwinsize(own, (rows, 160))
    words = [str(MCR), *arguments, "--socket", str(control.path)]
    sizes = {"COLUMNS", "LINES"}
    environment = {name: value for name, value in os.environ.items() if name not in sizes}
    with subprocess.Popen(
        words, stdout=theirs, stderr=theirs, stdin=theirs, env=environment
    ) as process:
        os.close(theirs)
        text = read_all(own, process)
        assert process.wait(20) == 0, text
    os.close(own)
    return text


def read_all(descriptor: int, process: subprocess.Popen[bytes]) -> str:
    """Read until the command has ended."""
    text = b""
    while select.select([descriptor], [], [], 0.05)[0] or process.poll() is None:
        try:
            text += os.read(descriptor, 65536)
        except OSError:  # all ends of the terminal are closed
            break
    return text.decode()


def test_ctrl_c_leaves_the_live_view_as_it_was(control: FakeSupervisor) -> None:
    """Typed on the terminal, which echoes it: nothing is there twice, and all fits the window."""
    with mcr.Client(control.path) as client:
        client.add_rules([f"239.1.2.{number}%lo:5001 to 127.0.0.1:7" for number in range(1, 60)])
    own, theirs = pty.openpty()
    termios.tcsetwinsize(own, (12, 100))
    words = [str(MCR), "stats", "--watch", "--socket", str(control.path)]
    starter = [sys.executable, "-c", _WITH_TERMINAL, *words]
    screen = Screen(100)
    # Not as readline has left it behind Python's back, with the size of another terminal.
    sizes = {"COLUMNS", "LINES"}
    environment = {name: value for name, value in os.environ.items() if name not in sizes}
    with subprocess.Popen(
        starter, stdout=theirs, stderr=theirs, stdin=theirs, env=environment
    ) as process:
        os.close(theirs)
        seen = ""

        def has_drawn() -> bool:
            nonlocal seen
            if select.select([own], [], [], 0.2)[0]:
                with contextlib.suppress(OSError):  # the command has ended
                    seen += os.read(own, 65536).decode()
            return "59, " in seen

        wait_until(has_drawn)
        os.write(own, b"\x03")
        ends_s = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < ends_s:
            has_drawn()
        seen += read_all(own, process)
        assert process.wait(1) == 0
    os.close(own)
    screen.write(seen)
    lines = [line for line in screen.lines if line]
    assert sum(line.startswith("rule ") for line in lines) == 1, lines
    assert sum("59, " in line for line in lines) == 1, lines
    assert len(lines) <= 12, lines


_WITH_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_report_has_rules_with_an_alarm_in_red(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, and only on a terminal with colours."""

    class Output(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    monkeypatch.setattr("sys.stdout", Output())
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    alarmed = replace(FLOWING, id="1" * 12, outputs=(OUTPUT,), alarms=(Alarm("low_pps", 1, 2, 1),))
    lines = report(Stats((), (FLOWING, alarmed)), mark=as_red).splitlines()
    red = ["\x1b[31m" in line for line in lines]
    assert red == ([False, False, True, True, True] if is_terminal else [False] * 5)
    assert report(Stats((), (FLOWING, alarmed))).splitlines() == [
        line.removeprefix("\x1b[31m").removesuffix("\x1b[0m") for line in lines
    ]
