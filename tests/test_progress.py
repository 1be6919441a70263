"""The line that commands show on a terminal while they work for longer than a second."""

import os
import pty
import re
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest
from tests.support.documents import MCR
from tests.support.screen import Screen

import mcr.cli.progress
from mcr.cli.progress import progress
from mcr.daemon.supervisor.handover.successor import Successor

LONG_S = 2.3


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], str]:
    """What a block of a duration writes to a terminal as standard error."""

    def show(text: str, seconds: float) -> str:
        reader, writer = pty.openpty()
        with os.fdopen(writer, "w") as terminal:
            monkeypatch.setattr("sys.stderr", terminal)
            with progress(text):
                time.sleep(seconds)
            monkeypatch.undo()
        return read_all(reader).decode()

    return show


def read_all(reader: int) -> bytes:
    """Read what was written to a terminal until its last writer has closed it; close it."""
    written = b""
    with suppress(OSError):  # EIO: there is no writer any more
        while piece := os.read(reader, 4096):
            written += piece
    os.close(reader)
    return written


def test_a_line_is_shown_after_a_second_and_taken_away(
    shown: Callable[[str, float], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the seconds so far, whatever NO_COLOR says; it has neither colours nor a line feed."""
    monkeypatch.setenv("NO_COLOR", "1")
    written = shown("reading mcr.toml\x1b", LONG_S)
    assert re.findall(r"reading mcr\.toml\\x1b: \d+ s", written) == [
        "reading mcr.toml\\x1b: 1 s",
        "reading mcr.toml\\x1b: 2 s",
    ]
    assert not set("\x1b\n") & set(written)
    screen = Screen(80)
    screen.write(written)
    assert screen.lines == [""]


def test_a_line_is_cut_to_the_terminal(
    shown: Callable[[str, float], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it stays one."""
    monkeypatch.setattr(mcr.cli.progress, "_columns", lambda: 20)
    monkeypatch.setattr(mcr.cli.progress, "_AFTER_S", 0.1)
    assert max(map(len, shown("x" * 100, 0.35).split("\r"))) == 19


def test_what_is_done_at_once_shows_nothing(shown: Callable[[str, float], str]) -> None:
    """On a terminal either."""
    assert shown("reading", 0.1) == ""


def test_a_block_that_fails_leaves_no_line_and_no_thread(
    monkeypatch: pytest.MonkeyPatch, shown: Callable[[str, float], str]
) -> None:
    """As with Ctrl-C."""
    monkeypatch.setattr(mcr.cli.progress, "_AFTER_S", 0.05)

    def interrupt(_: float) -> None:
        end_s = time.monotonic() + 0.2
        while time.monotonic() < end_s:
            pass
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        shown("reading", 1)


def test_a_takeover_that_lasts_says_so_once() -> None:
    """After a second, while the old daemon is still responsible."""
    supervisor = Mock()
    takeover = Successor(Mock(pid=os.getpid()), Mock(), Mock(), Mock(workers=[]), supervisor)
    now_s = time.monotonic()
    for later_s in (0.0, 0.9, 1.2, 2.0):
        takeover.check_time(now_s + later_s)
        assert supervisor.show.called == (later_s > 1)
    supervisor.show.assert_called_once_with(f"taking over from process {os.getpid()}")
    takeover.close()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_command_that_waits_for_the_daemon(is_terminal: bool, tmp_path: Path) -> None:
    """It says so on a terminal, and elsewhere writes nothing but its error."""
    file, path = tmp_path / "mcr.toml", tmp_path / "mcr.sock"
    file.write_text("rules = []")
    reader, writer = pty.openpty()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(50)
        process = subprocess.Popen(
            [str(MCR), "plan", str(file), "--socket", str(path)],
            stderr=writer if is_terminal else subprocess.PIPE,
        )
        os.close(writer)
        connected, _ = listener.accept()
        time.sleep(LONG_S)
        connected.close()
    terminal, error = read_all(reader).decode(), process.communicate(timeout=50)[1]
    text = f"mcr: the daemon at {path} closed the connection at once"
    assert process.returncode == 1
    if is_terminal:
        assert "\rwaiting for the daemon: 1 s" in terminal
        screen = Screen(500)
        screen.write(terminal)
        assert screen.lines[0] == text
    else:
        assert (terminal, error.decode()) == ("", f"{text}\n")
