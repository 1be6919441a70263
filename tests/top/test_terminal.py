"""`mcr top` as a process on a terminal."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.support.deadline import wait_until
from tests.support.terminal import Terminal, on_terminal
from tests.topology.daemons import MCR, Daemon, serving

from mcr.cli import main

RULE = "239.1.97.2%lo:5001,name=idle to 127.0.0.1:7001"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon on loopback with a rule that receives nothing."""
    with serving(None, "--ingress", "udp") as made:
        with made.client() as client:
            client.add_rule(RULE)
        yield made


@contextmanager
def top_on_terminal(daemon: Daemon, environment: dict[str, str]) -> Iterator[Terminal]:
    """Run `mcr top` until it shows the daemon."""
    command = [MCR, "top", "--socket", str(daemon.socket)]
    with on_terminal(command, b"with a problem", environment) as terminal:
        yield terminal


@pytest.mark.parametrize("way", ["q", "\x03", signal.SIGTERM])
def test_the_terminal_is_restored(daemon: Daemon, way: str | signal.Signals) -> None:
    """After keys and signals: its settings, its cursor and what it showed before."""
    with top_on_terminal(daemon, {}) as terminal:
        assert not terminal.echoes()
        if isinstance(way, signal.Signals):
            terminal.process.send_signal(way)
        else:
            os.write(terminal.ours, way.encode())
        wait_until(terminal.ended, what="the end")
        terminal.read()
        assert terminal.process.returncode == 0
        assert terminal.echoes()
        end = terminal.written[-200:]
        assert b"\x1b[?1049l" in end, "the other screen"
        assert b"\x1b[?25h" in end, "the cursor"


def test_colours_are_those_of_the_terminal(daemon: Daemon) -> None:
    """None with NO_COLOR, else the sixteen of the terminal."""
    for environment, known in (({"NO_COLOR": "1"}, False), ({}, True)):
        with top_on_terminal(daemon, environment) as terminal:
            terminal.wait_for(b"joined")
            codes = b";".join(re.findall(rb"\x1b\[([0-9;]*)m", terminal.written)).split(b";")
            assert any(30 <= int(code or 0) <= 37 for code in codes) is known
            assert b"38" not in codes


def test_one_sentence_where_it_cannot_run(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal, without a daemon, without such a rule, and without the extra."""
    arguments = ["top", "--socket", str(daemon.socket)]
    assert main(arguments) == 1
    assert (
        "mcr top needs a terminal; mcr stats --watch works without one" in capsys.readouterr().err
    )
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main([*arguments, "nosuch"]) == 2
    assert "there is no rule with the id or name 'nosuch'" in capsys.readouterr().err
    assert main(["top", "--socket", "/nosuch/mcr.sock"]) == 1
    assert "no daemon listens at /nosuch/mcr.sock" in capsys.readouterr().err
    monkeypatch.setattr("mcr.cli.top.find_spec", lambda _name: None)
    assert main(arguments) == 1
    assert "install it with pip install 'mcr-relay[top]'" in capsys.readouterr().err
