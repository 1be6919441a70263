"""The socket for observers: its access, its methods and its end, with a real daemon."""

import contextlib
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.raw_client import RawClient

import mcr
from mcr.cli import main
from mcr.daemon.control.api.method_types import METHOD_TYPES
from mcr.daemon.supervisor.errors import StartError
from mcr.daemon.supervisor.listener import Listener
from mcr.protocol.constants import ErrorCode

from .daemons import Daemon, serving

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")

OBSERVERS = 3  # the group sys of every Linux
USER, OTHERS = 64997, 64998
RULE = "239.1.92.1%lo:5001,name=watched to 127.0.0.1:7001"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon with a socket for observers, on loopback, with one rule."""
    with serving(None, "--ingress", "udp", "--observers", str(OBSERVERS)) as made:
        with made.client() as client:
            client.add_rule(RULE)
        yield made


@pytest.fixture(scope="module")
def path(daemon: Daemon) -> Path:
    """The path of the socket for observers."""
    return daemon.socket.with_name("mcr-observers.sock")


@contextlib.contextmanager
def acting_as(user: int, group: int) -> Iterator[None]:
    """Connect with the credentials of another user."""
    groups = os.getgroups()
    os.setgroups([group])
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def test_members_of_the_group_observe(daemon: Daemon, path: Path) -> None:
    """They see what other clients see, and cannot connect to the daemon's own socket."""
    status = path.stat()
    assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (OBSERVERS, 0o660)
    with acting_as(USER, OBSERVERS):
        with pytest.raises(PermissionError):
            RawClient(daemon.socket)
        with mcr.Client(path) as observer:
            (rule,) = observer.rules()
            stats = observer.stats()
    assert (rule.name, stats.rules[0].id) == ("watched", rule.id)


def test_other_users_do_not(path: Path) -> None:
    """The mode of the socket keeps them out, and so does control if the mode is changed."""
    with acting_as(USER, OTHERS), pytest.raises(PermissionError):
        RawClient(path)
    path.chmod(0o666)
    try:
        with acting_as(USER, OTHERS), RawClient(path) as client:
            assert client.line()["error"]["code"] == ErrorCode.RIGHTS
    finally:
        path.chmod(0o660)


def test_observers_change_nothing(daemon: Daemon, path: Path) -> None:
    """Each method that does more than show is refused, whatever its parameters."""
    refused = [name for name, types in METHOD_TYPES.items() if not types.observes]
    assert {"rules.add", "rules.replace", "logs.set", "hosts.resolve", "shutdown"} <= set(refused)
    with RawClient(path) as observer, daemon.client() as client:
        before = client.hello().revision
        for name in refused:
            error = observer.error(name, rules=["239.1.92.2%lo:5001 to 127.0.0.1:7001"])
            assert error["code"] == ErrorCode.RIGHTS
            assert error["message"] == f"this socket only observes; {name} needs the daemon's"
        assert client.hello().revision == before
        assert observer.call("rules.get", rule="watched")["rule"]["enabled"]


def test_observers_get_events(daemon: Daemon, path: Path) -> None:
    """A change that a client makes reaches a subscriber there."""
    with (
        mcr.Client(path) as observer,
        daemon.client() as client,
        observer.events(["rule"]) as events,
    ):
        client.disable_rule("watched")
        client.enable_rule("watched")
        assert [next(events).event, next(events).event] == ["disabled", "enabled"]


def test_observers_take_nothing_from_clients(daemon: Daemon, path: Path) -> None:
    """With all its connections in use, the other socket still has room, and an idle one yields."""
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(RawClient(daemon.socket))
        assert client.call("ping")
        greedy = []
        for _ in range(300):
            greedy.append(stack.enter_context(RawClient(path)))
            assert greedy[-1].call("ping")
        for each in greedy:
            with contextlib.suppress(OSError):
                each.send(b'{"half a request": ')
        assert client.call("ping")
        assert stack.enter_context(RawClient(daemon.socket)).call("ping")


def test_both_sockets_outlive_control(daemon: Daemon, path: Path) -> None:
    """Control is killed; its successor serves both."""
    killed = daemon.control
    os.kill(killed, signal.SIGKILL)
    with mcr.Client(path) as observer:
        wait_until(lambda: observer.hello().pid != killed)
    assert daemon.control != killed


def test_the_socket_has_one_daemon(tmp_path: Path) -> None:
    """One that a killed daemon has left is taken over; a running one is named."""
    own = tmp_path / "seen"
    arguments = ("--ingress", "udp", "--observers", "sys", "--observers-socket", str(own))
    with serving(None, *arguments) as daemon:
        assert own.is_socket()
        assert daemon.end() == 0
        assert not own.exists()
    with serving(None, *arguments) as daemon:
        os.kill(daemon.supervisor, signal.SIGKILL)
        daemon.process.wait()
        assert own.is_socket()
    with serving(None, *arguments) as daemon, mcr.Client(own) as observer:
        assert observer.ping().workers.running == 1
        with pytest.raises(StartError, match="another path with --observers-socket"):
            Listener(own, OBSERVERS, private=False, option="--observers-socket")


def test_options_are_checked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each mistake is one sentence that names the option."""
    socket = ["serve", "--socket", str(tmp_path / "s")]
    assert main([*socket, "--observers", "no-such-group"]) == 2
    assert "'--observers': there is no group 'no-such-group'" in capfd.readouterr().err
    assert main([*socket, "--observers", "99999999999999999999"]) == 2
    assert main([*socket, "--observers-socket", str(tmp_path / "o")]) == 2
    assert "needs --observers GROUP" in capfd.readouterr().err
    same = ["--observers", "sys", "--observers-socket", str(tmp_path / "s")]
    assert main([*socket, *same]) == 2
    assert "is the daemon's own socket" in capfd.readouterr().err
