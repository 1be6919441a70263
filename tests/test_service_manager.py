"""What the supervisor reports to the service manager: readiness, the end, and that workers turn."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mcr.daemon.supervisor.service_manager import ServiceManager
from mcr.errors import RuleError

from .support.deadline import wait_until
from .support.supervisor_process import WORKER, supervisor_process
from .topology.daemons import serving

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


def reloading_at(manager: socket.socket) -> int:
    """The time of the next message, which says that the daemon reloads."""
    first, second = manager.recv(100).decode().splitlines()
    assert first == "RELOADING=1"
    name, _, value = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert time.monotonic() * 1e6 - 20e6 < int(value) <= time.monotonic() * 1e6
    return int(value)


def is_silent(manager: socket.socket) -> bool:
    """Whether no message comes for longer than a turn of the supervisor."""
    manager.settimeout(0.6)
    try:
        manager.recv(100)
    except TimeoutError:
        manager.settimeout(20)
        return True
    return False


@pytest.mark.parametrize("has_file", [True, False])
def test_a_reload_is_over_when_control_has_applied_it(
    has_file: bool, tmp_path: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several, the last; each begins with a time of its own, as Type=notify-reload asks for."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    config = tmp_path / "rules.json"
    config.write_text("[1]")
    kind = "config" if has_file else "hosts"
    settings: dict[str, Any] = {"config": str(config)} if has_file else {}
    with supervisor_process(tmp_path / "a", **settings) as made:
        assert manager.recv(100) == b"READY=1"

        def answer_last() -> None:
            number = made.messages(kind)[-1]["number"]
            made.order("raw", (b"A" + number.to_bytes(4, "little")).hex())

        began = len(made.messages(kind))
        made.process.send_signal(signal.SIGHUP)
        first = reloading_at(manager)
        wait_until(lambda: len(made.messages(kind)) == began + 1)
        assert is_silent(manager)
        made.process.send_signal(signal.SIGHUP)
        assert reloading_at(manager) > first
        made.order("raw", (b"A" + (1).to_bytes(4, "little")).hex())
        wait_until(lambda: len(made.messages(kind)) == began + 2)
        assert is_silent(manager)
        answer_last()
        assert manager.recv(100) == b"READY=1"
        # A control process that dies meanwhile has a successor, which begins with the new files.
        made.process.send_signal(signal.SIGHUP)
        reloading_at(manager)
        wait_until(lambda: len(made.messages(kind)) == began + 3)
        os.kill(made.pid("control"), signal.SIGKILL)
        assert manager.recv(100) == b"READY=1"
        if has_file:
            made.order("load", "conf.d/*.json")
            reloading_at(manager)
            config.unlink()
            wait_until(lambda: made.messages(kind)[-1]["include"] == ["conf.d/*.json"])
            answer_last()
            assert manager.recv(100) == b"READY=1"
        made.process.send_signal(signal.SIGTERM)
        assert manager.recv(100) == b"STOPPING=1"
        assert made.process.wait(20) == 0


def test_a_daemon_that_reloads_or_refuses_to(
    tmp_path: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SIGHUP and by a client: one RELOADING before each READY, also if nothing has changed."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    config = tmp_path / "mcr.toml"
    config.write_text('rules = ["239.1.1.1%lo:5029 to 127.0.0.1:9"]')
    with (
        serving(None, "--ingress", "udp", "--config", str(config)) as daemon,
        daemon.client() as client,
    ):
        assert manager.recv(100) == b"READY=1"
        config.write_text('rules = ["239.1.1.2%lo:5029 to 127.0.0.1:9"]')
        daemon.process.send_signal(signal.SIGHUP)
        reloading_at(manager)
        assert manager.recv(100) == b"READY=1"
        assert [each.rule[:18] for each in client.rules()] == ["239.1.1.2%lo:5029 "]
        config.write_text("rules = [7]")
        for reload in (lambda: daemon.process.send_signal(signal.SIGHUP), client.reload):
            with suppress(RuleError):
                reload()
            reloading_at(manager)
            assert manager.recv(100) == b"READY=1"
        (tmp_path / "conf.d").mkdir()
        config.write_text('include = "conf.d/*.toml"\nrules = []')
        assert client.reload().removed
        reloading_at(manager)
        reloading_at(manager)  # the files that it includes are read behind the first
        assert manager.recv(100) == b"READY=1"
        assert is_silent(manager)


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
