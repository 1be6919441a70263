"""Every example runs, over loopback and briefly, and says what it promises."""

import subprocess
import sys
from pathlib import Path

from tests.made_up_daemon import made_up_daemon

EXAMPLES = Path(__file__).parents[1] / "examples"
TIMEOUT_S = 50


def run(name: str, *arguments: str) -> str:
    """Run one example; return what it printed."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_stream() -> None:
    """Relays, ends in time and reports."""
    printed = run("one_stream.py", "--ingress", "udp", "--seconds", "0.2")
    assert "relaying by the udp ingress" in printed
    assert "0 sent, 0 lost" in printed


def test_one_stream_refuses_a_wrong_rule() -> None:
    """A sentence, no traceback."""
    command = [sys.executable, str(EXAMPLES / "one_stream.py"), "239.1.1.1%lo:5001"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("one_stream: rule 1, outputs: missing")


def test_fan_out() -> None:
    """The lasting output gets everything, the guest something, and nothing is lost."""
    lines = run("fan_out.py", "--seconds", "1.5").splitlines()
    assert [line for line in lines if line.endswith(":")] == [
        "one output:",
        "a guest has joined:",
        "the guest has left:",
    ]
    copies = [line.split() for line in lines if line.endswith("lost")]
    assert [words[0] for words in copies] == ["always", "always", "guest", "always"]
    assert all(int(words[-4]) > 0 and words[-2] == "0" for words in copies)
    generated = int(lines[-1].split()[0])
    assert int(copies[-1][-4]) == generated


def test_watch_statistics() -> None:
    """The numbers move, and they add up."""
    printed = run("watch_statistics.py", "--seconds", "1.2")
    assert "flowing from " in printed
    assert printed.splitlines()[-1] == "every datagram is accounted for"


def test_demo() -> None:
    """The demo relays three copies of a stream and loses none worth a word."""
    printed = run("demo.py", "--seconds", "1", "--rate", "500")
    assert "udp ingress, over loopback" in printed
    assert "latency p99" in printed


def test_daemon(tmp_path: Path) -> None:
    """Adds its rule, hears of it, and leaves nothing behind."""
    path = tmp_path / "mcr.sock"
    with made_up_daemon(path) as daemon:
        printed = run("daemon.py", "--socket", str(path), "--seconds", "0.5")
        assert daemon.rules == {}
    assert "event 1: rule " in printed
    assert "joined, no frame seen on lo; 10 datagrams" in printed


def test_daemon_without_one(tmp_path: Path) -> None:
    """A sentence, no traceback."""
    command = [sys.executable, str(EXAMPLES / "daemon.py"), "--socket", str(tmp_path / "mcr.sock")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("daemon: no daemon listens at ")
