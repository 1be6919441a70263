"""What the supervisor reports to the service manager: readiness, the end, and that workers turn."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcr.daemon.supervisor.service_manager import ServiceManager

from .support.supervisor_process import WORKER, supervisor_process

PING_S = 0.25
PERIOD_US = "1000000"


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of a service manager that wants a ping each second."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(os.fspath(tmp_path / "notify"))
        made.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield made


@pytest.mark.parametrize("kind", ["abstract", "path"])
def test_an_abstract_socket_is_written_with_an_at(kind: str, tmp_path: Path) -> None:
    """What cannot be reached, or is no Unix socket, is ignored."""
    name = f"@mcr-test-{os.getpid()}" if kind == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        ServiceManager({"NOTIFY_SOCKET": name}).notify("READY=1")
        assert manager.recv(100) == b"READY=1"
    ServiceManager({"NOTIFY_SOCKET": name}).notify("READY=1")  # no process reads it any more
    ServiceManager({"NOTIFY_SOCKET": "vsock:2:1234"}).notify("READY=1")
    ServiceManager({}).notify("READY=1")


def test_a_ping_takes_a_heartbeat_of_every_worker() -> None:
    """Four times in the period of the manager, or later, once the last worker has sent one."""
    service = ServiceManager({"WATCHDOG_USEC": PERIOD_US, "WATCHDOG_PID": str(os.getpid())})
    assert service.ping([0, 0], 10.0)
    assert not service.ping([9, 9], 10.0 + 0.9 * PING_S)
    assert not service.ping([9, 0], 10.0 + PING_S)
    assert not service.ping([99, 0], 1000.0)
    assert service.ping([99, 1], 1000.1)
    assert not service.ping([999, 2], 1000.1 + 0.9 * PING_S)
    assert service.ping([999, 2], 1000.1 + PING_S)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": PERIOD_US, "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "\u00b2"},
    ],
)
def test_no_pings_unless_this_process_is_asked_for_them(environment: dict[str, str]) -> None:
    """The variables may be those of a parent."""
    assert not ServiceManager(environment).ping([1], 1.0)


def test_the_supervisor_alone_notifies(
    tmp_path: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY and STOPPING come from it, and no child has the address."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    with supervisor_process(tmp_path / "a") as made:
        assert manager.recv(100) == b"READY=1"
        environment = Path(f"/proc/{made.pid(WORKER)}/environ").read_bytes()
        assert b"NOTIFY_SOCKET" not in environment
        made.process.send_signal(signal.SIGTERM)
        assert manager.recv(100) == b"STOPPING=1"
        assert made.process.wait(20) == 0


def test_no_pings_while_a_worker_is_stopped(
    tmp_path: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They return with its successor."""
    monkeypatch.setenv("WATCHDOG_USEC", PERIOD_US)
    with supervisor_process(tmp_path / "a", workers=2) as made:
        while manager.recv(100) != b"READY=1":
            pass
        for _ in range(3):
            assert manager.recv(100) == b"WATCHDOG=1"
        os.kill(made.pid(WORKER), signal.SIGSTOP)
        stopped_s = time.monotonic()
        # At most those of heartbeats that were on their way; the next takes a successor, which is
        # started after three seconds of silence.
        early = 0
        while manager.recv(100) == b"WATCHDOG=1" and time.monotonic() < stopped_s + 2.5:
            early += 1
        assert early <= 2
        (ended,) = made.messages("worker_ended")
        assert ended["cause"] == "did not answer for 3 s"
