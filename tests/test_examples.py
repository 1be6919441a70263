"""Every example runs briefly over loopback, and prints what it promises."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.topology.daemons import serving

EXAMPLES = Path(__file__).parents[1] / "examples"
TIMEOUT_S = 100
RECEIVERS = ("r2", "r3", "r4", "r5")
"""The relays of the fleet demo that deliver the stream."""


def run(name: str, *arguments: str) -> str:
    """Run one example; return what it printed."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_stream() -> None:
    """It relays, ends in time and reports."""
    printed = run("one_stream.py", "--ingress", "udp", "--seconds", "0.2")
    assert "relaying by the udp ingress" in printed
    assert "0 sent, 0 lost" in printed


def test_one_stream_refuses_a_wrong_rule() -> None:
    """With one line of error, without a traceback."""
    command = [sys.executable, str(EXAMPLES / "one_stream.py"), "239.1.1.1%lo:5001"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("one_stream: rule 1, outputs: missing")


def test_fan_out() -> None:
    """The permanent output gets everything, the temporary one something, and nothing is lost."""
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
    """The numbers grow and add up."""
    printed = run("watch_statistics.py", "--seconds", "1.2")
    assert "flowing from " in printed
    assert printed.splitlines()[-1] == "every datagram is accounted for"


def test_cut_feeds() -> None:
    """Each feed misses something, the output nothing."""
    *feeds, sums = run("cut_feeds.py", "--cuts", "2", "--cut", "0.1").splitlines()
    assert all(int(line.rpartition(" ")[2]) > 0 for line in feeds)
    assert sums.endswith(", lost on both 0")


def test_demo() -> None:
    """It relays three copies of a stream with almost no loss."""
    printed = run("demo.py", "--seconds", "1", "--rate", "500")
    assert "udp ingress, over loopback" in printed
    assert "latency p99" in printed


@pytest.mark.timeout(120)
def test_fleet_demo() -> None:
    """A server's death costs nothing; that of a relay only those below it, until they moved."""
    printed = run("fleet_demo.py", "--seconds", "1")
    parts = re.split(r"^(all relay|.* was killed|.* without r2)$", printed, flags=re.M)[1:]
    lost = {
        title: {
            name: int(count)
            for name, count in re.findall(r"^  (r\d): received [1-9]\d*, lost (\d+)$", text, re.M)
        }
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }
    assert lost["all relay"] == lost["a server was killed"] == dict.fromkeys(RECEIVERS, 0)
    last = lost["the tree was planned again without r2"]
    assert set(last) == set(RECEIVERS)
    assert last["r3"] == 0
    received = [dict(re.findall(r"^  (r\d): received (\d+)", text, re.M)) for text in parts[5::2]]
    assert all(int(received[-1][name]) > int(received[0][name]) for name in RECEIVERS[1:])


def test_daemon() -> None:
    """It adds its rule, gets its event, and leaves nothing behind."""
    with serving(None, "--ingress", "udp") as daemon, daemon.client() as client:
        printed = run("daemon.py", "--socket", str(daemon.socket), "--seconds", "0.5")
        assert client.rules().rules == ()
    assert ": rule example was added\n" in printed
    assert "joined, no frame seen on lo; 0 datagrams" in printed


def test_daemon_without_one(tmp_path: Path) -> None:
    """One line of error, without a traceback."""
    command = [sys.executable, str(EXAMPLES / "daemon.py"), "--socket", str(tmp_path / "mcr.sock")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("daemon: no daemon listens at ")


UNITS = {"mcr.service": "serve", "mcr-web.service": "web"}


@pytest.mark.parametrize("name", UNITS)
def test_the_units_start_what_can_be_started(name: str) -> None:
    """Each option of the command line is one of the command."""
    (line,) = re.findall(r"^ExecStart=(.*)$", (EXAMPLES / name).read_text(), re.M)
    program, command, *words = line.split()
    assert (Path(program).name, command) == ("mcr", UNITS[name])
    options = {word for word in words if word.startswith("--")}
    assert options
    asked = [str(Path(sys.executable).with_name("mcr")), command, "--help"]
    shown = subprocess.run(asked, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    assert options <= set(re.findall(r"--[a-z-]+", shown.stdout))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_the_units(name: str, tmp_path: Path) -> None:
    """Every directive is valid; the program is that of the tests."""
    unit, program = tmp_path / name, str(Path(sys.executable).with_name("mcr"))
    unit.write_text((EXAMPLES / name).read_text().replace("/opt/mcr/bin/mcr", program))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
