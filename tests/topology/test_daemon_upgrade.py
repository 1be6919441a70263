"""A daemon that its service replaces by the installed version, as SIGUSR2 requests."""

import contextlib
import os
import queue
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.processes import is_running

import mcr
from mcr.daemon.supervisor.handover.endpoint import endpoint_path

from .checks import PROCESS_S, settle
from .daemons import Daemon, serving
from .deaths import lost
from .lab import Lab
from .test_daemon_takeover import successor
from .traffic import PacedFlow

RULE = "239.1.98.1%in0:5001,name=feed to 239.2.98.1%out0:6001"
RATE_PPS = 2000
PERIOD_US = 1_000_000


class Manager:
    """A service manager's end of the notifications, which knows who has sent each."""

    def __init__(self, path: Path) -> None:
        """Listen; read at once, as the kernel keeps no more than ten for a reader."""
        self.environment = ("env", f"NOTIFY_SOCKET={path}", f"WATCHDOG_USEC={PERIOD_US}")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._heard: queue.Queue[tuple[int, str]] = queue.Queue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while True:
            text, control, _, _ = self._socket.recvmsg(200, socket.CMSG_SPACE(12))
            if not text:
                return
            (_, _, credentials), *_ = control
            self._heard.put((int.from_bytes(credentials[:4], sys.byteorder), text.decode()))

    def next(self) -> tuple[int, str]:
        """The next notification with the process that has sent it."""
        return self._heard.get(timeout=PROCESS_S)

    def until(self, text: str) -> int:
        """Wait for a notification; return who has sent it."""
        while True:
            pid, said = self.next()
            if said == text:
                return pid
            # The new one reports as well, before it is the main process.
            assert said.endswith(("READY=1", "WATCHDOG=1")), said

    def close(self) -> None:
        """Stop listening."""
        self._socket.shutdown(socket.SHUT_RD)
        self._thread.join()
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A service manager with a watchdog."""
    with contextlib.closing(Manager(tmp_path / "notify")) as made:
        yield made


@contextlib.contextmanager
def replaced(daemon: Daemon, manager: Manager) -> Iterator[int]:
    """Have the daemon replaced as its service would be; the new one ends after the block."""
    daemon.process.send_signal(signal.SIGUSR2)
    daemon.wait_for(" starts to take over")
    new = int(re.findall(r"process (\d+) starts to take over", daemon.log)[-1])
    try:
        assert manager.until(f"MAINPID={new}") == daemon.supervisor
        assert daemon.process.wait(PROCESS_S) == 0, daemon.read_log()
        yield new
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(new, signal.SIGTERM)
        wait_until(lambda: not is_running(new), PROCESS_S)


def group_of(pid: int) -> str:
    """The control group of a process."""
    return Path(f"/proc/{pid}/cgroup").read_text()


def test_the_installed_version_takes_over_within_the_service(lab: Lab, manager: Manager) -> None:
    """Nothing is lost, and the manager's watchdog is reset by the new main process."""
    lab.set_offload(on=True)
    with (
        serving(lab.relay, "--ingress", "packet", before=manager.environment) as old,
        lab.receive("239.2.98.1", 6001) as receiver,
        lab.sender("239.1.98.1", 5001) as sender,
    ):
        assert manager.until("READY=1") == old.supervisor
        with old.client() as client:
            client.add_rule(RULE)
        group = group_of(old.supervisor)
        with PacedFlow(sender, RATE_PPS) as flow:
            flow.advance(RATE_PPS // 5)
            with replaced(old, manager) as new:
                flow.advance(RATE_PPS // 5)
                flow.stop()
                receiver.wait_for_payload(flow.sent[-1])
                assert lost(flow.sent, receiver) == 0
                assert group_of(new) == group
                while manager.next() != (new, "WATCHDOG=1"):
                    pass
                with mcr.Client(old.socket) as client:
                    settle(client, lambda stats: stats.rules[0].matched == len(flow.sent))
        assert not any(old.socket.parent.iterdir())


def test_one_that_was_started_elsewhere_is_not_watched(lab: Lab, manager: Manager) -> None:
    """It does not know the manager, so the watchdog would end it."""
    with (
        serving(lab.relay, "--ingress", "udp", before=manager.environment) as old,
        successor(lab, old, "--ingress", "udp") as new,
    ):
        sender = manager.until(f"MAINPID={new.supervisor}\nWATCHDOG_USEC=0")
        assert sender == old.supervisor
        assert new.end() == 0


def test_a_new_version_that_cannot_start_is_an_error_in_the_log(lab: Lab, manager: Manager) -> None:
    """The daemon relays on, and the next attempt may succeed."""
    with serving(lab.relay, "--ingress", "udp", before=manager.environment) as old:
        endpoint = endpoint_path(old.socket)
        hidden = endpoint.rename(endpoint.with_name("hidden"))
        old.process.send_signal(signal.SIGUSR2)
        old.wait_for("no daemon that can be replaced serves", PROCESS_S)
        old.wait_for("has not taken over: ended with code 1", PROCESS_S)
        hidden.rename(endpoint)
        with replaced(old, manager):
            pass
