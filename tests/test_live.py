"""The real engine on loopback, without rights: tests that need real threads and signals."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.topology.checks import assert_balanced

COUNT = 50


@pytest.fixture
def ports() -> tuple[int, int]:
    """Two UDP ports that were free a moment ago."""
    with closing(_receiver(0)) as one, closing(_receiver(0)) as two:
        return one.getsockname()[1], two.getsockname()[1]


def _receiver(port: int) -> socket.socket:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", port))
    receiver.settimeout(20)
    return receiver


def _send(group: str, port: int, count: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        for number in range(count):
            sender.sendto(str(number).encode(), (group, port))


@contextmanager
def _command(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `mcr` and wait until it is ready; it has exited after the block."""
    command = [sys.executable, "-c", "import sys; from mcr.cli import main; sys.exit(main())"]
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            assert any(line.startswith("ready") for line in process.stderr), process.wait()
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_relays_until_a_signal(number: signal.Signals, ports: tuple[int, int]) -> None:
    """All datagrams arrive in order and are in the report, the only standard output."""
    into, out = ports
    rule = f"239.79.2.1%lo:{into} to 127.0.0.1:{out}"
    with (
        closing(_receiver(out)) as receiver,
        _command("relay", rule, "--ingress", "udp", "--json") as process,
    ):
        _send("239.79.2.1", into, COUNT)
        assert [receiver.recv(99) for _ in range(COUNT)] == [b"%d" % n for n in range(COUNT)]
        process.send_signal(number)
        report = json.loads(process.communicate(timeout=20)[0])
        assert process.returncode == 0
    assert_balanced(report)
    (found,) = report["rules"]
    assert found["matched"] == found["outputs"][0]["sent"] == COUNT
    assert found["state"].startswith("flowing from ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")
def test_no_thread_of_the_command_stays_root(ports: tuple[int, int]) -> None:
    """When it is ready, all threads are nobody, without capabilities or a way back."""
    rule = f"239.79.2.2%lo:{ports[0]} to 127.0.0.1:{ports[1]}"
    with _command("relay", rule, "--ingress", "udp") as process:
        threads = list(Path(f"/proc/{process.pid}/task").iterdir())
        assert len(threads) > 1
        for thread in threads:
            lines = (thread / "status").read_text().splitlines()
            status = dict(line.split(":\t", 1) for line in lines)
            assert status["Uid"].split() == ["65534"] * 4
            assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
            assert status["NoNewPrivs"] == "1"


def _python(code: str, ports: tuple[int, int]) -> str:
    rule = f"239.79.2.3%lo:{ports[0]} to 127.0.0.1:{ports[1]}"
    head = f"import mcr, os, signal, sys, threading\nrelay = mcr.Relay({rule!r}, ingress='udp')\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", head + code],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_forked_child_exits_silently(ports: tuple[int, int]) -> None:
    """It does not close the relay, and the parent's continues."""
    code = """
relay.start()
child = os.fork()
if child == 0:
    del relay
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert relay.error is None and relay.wait(0.1) is False
relay.close()
print("done")
"""
    assert _python(code, ports) == "done\n"


def test_ctrl_c_ends_a_wait(ports: tuple[int, int]) -> None:
    """The engine's threads receive no signal; Python gets it during the wait."""
    code = """
with relay:
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        relay.wait(30)
    except KeyboardInterrupt:
        print("interrupted")
"""
    assert _python(code, ports) == "interrupted\n"
