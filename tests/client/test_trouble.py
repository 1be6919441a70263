"""What the clients do when the daemon restarts, keeps silent or is not there."""

import asyncio
import errno
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.fake_daemon import MadeUpDaemon

import mcr

A = "239.1.1.1%lo:5001,name=feed-a to 127.0.0.1:7001"
B = "239.1.1.2%lo:5001 to 239.2.0.2%lo:6001,ttl=8 127.0.0.1:7001"
Opener = Callable[..., mcr.Client]


def test_no_daemon(opened: Opener, path: Path) -> None:
    """Three ways in which nobody can be there, and each is said at once."""
    began_s = time.monotonic()
    with pytest.raises(mcr.DaemonError) as error:
        opened().ping()
    assert str(error.value) == f"no daemon listens at {path}; start one with mcr serve"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    with pytest.raises(mcr.DaemonError, match="is gone and left its socket behind; start one"):
        opened().add_rule(A)
    path.unlink()
    path.touch()
    with pytest.raises(mcr.DaemonError, match=r"mcr\.sock is no socket; name the one that"):
        opened().ping()
    assert time.monotonic() - began_s < 4, "it does not wait for a daemon that never was"


@pytest.mark.parametrize("name", ["x" * 200, "mcr\0sock"])
def test_a_path_that_cannot_be(name: str) -> None:
    """Nothing but an error of mcr."""
    with (
        mcr.Client(name) as client,
        pytest.raises(mcr.DaemonError, match=r"cannot connect to|no daemon"),
    ):
        client.ping()


def test_reading_goes_on_after_a_restart(client: mcr.Client, daemon: MadeUpDaemon) -> None:
    """The control process was exchanged between two questions: nobody notices."""
    client.add_rule(A)
    daemon.restart_control()
    assert len(client.rules()) == 1
    assert daemon.asked.count("hello") == 2


def test_a_change_that_was_not_sent_is_made(client: mcr.Client, daemon: MadeUpDaemon) -> None:
    """Over a connection that had ended before nothing was asked, so it can be asked anew."""
    client.ping()
    daemon.restart_control()
    wait_until(lambda: not daemon.connections)
    assert client.add_rule(A).revision == 1
    assert daemon.asked.count("rules.add") == 1


def test_a_change_without_an_answer_is_left_in_doubt(
    client: mcr.Client, daemon: MadeUpDaemon
) -> None:
    """Never made twice: the caller is told what to look at."""
    client.add_rule(A)

    def end(line: bytes, connection: socket.socket) -> bool:
        if b"rules.add" in line:
            daemon.asked.append("lost")
            connection.shutdown(socket.SHUT_RDWR)
        return b"rules.add" in line

    daemon.on_line = end
    with pytest.raises(mcr.DaemonError) as error:
        client.add_rule(B)
    assert "the change may or may not have been made: compare the revision" in str(error.value)
    assert "was 1 when it last answered" in str(error.value)
    assert daemon.asked.count("lost") == 1
    with pytest.raises(mcr.DaemonError, match=r"ended the connection without an answer$"):
        client.add_rule(B, dry_run=True)  # which may be asked twice, and was
    assert daemon.asked.count("lost") == 3
    daemon.on_line = None
    assert client.ping().revision == 1


def test_it_waits_for_a_daemon_on_its_way_back(
    client: mcr.Client, daemon: MadeUpDaemon, opened: Opener
) -> None:
    """As after an update: no socket for a while, then another daemon on the same path."""
    client.ping()
    daemon.stop()
    timer = threading.Timer(0.3, daemon.start)
    timer.start()
    assert client.ping()
    timer.join()
    short = opened(timeout_s=0.3)
    short.ping()
    daemon.stop()
    with pytest.raises(mcr.DaemonError, match="no daemon listens at"):
        short.ping()


def test_a_silent_daemon(daemon: MadeUpDaemon, opened: Opener) -> None:
    """The time is kept, and a late answer is never taken for the next question's."""
    client = opened(timeout_s=0.2)
    client.ping()
    held: list[tuple[bytes, socket.socket]] = []

    def hold(line: bytes, connection: socket.socket) -> bool:
        if b"hello" in line or len(held) == 1:
            return False
        held.append((line, connection))
        return True

    daemon.on_line = hold
    began_s = time.monotonic()
    with pytest.raises(mcr.DaemonError, match=r"did not answer within 0\.2 s$"):
        client.ping()
    assert time.monotonic() - began_s < 2
    daemon.answer(*held[0])
    assert client.rules().rules == ()


def test_a_change_and_a_silent_daemon(daemon: MadeUpDaemon, opened: Opener) -> None:
    """It may still be made; that is said."""
    client = opened(timeout_s=0.2)
    daemon.on_line = lambda line, _: b"rules.add" in line
    with pytest.raises(mcr.DaemonError, match=r"did not answer within 0\.2 s; the change may or"):
        client.add_rule(A)


def test_a_greeting_that_is_refused(daemon: MadeUpDaemon, client: mcr.Client) -> None:
    """Another protocol: the daemon's sentence, and nothing is asked."""
    daemon.protocol = 2
    with pytest.raises(mcr.DaemonError, match="this daemon speaks protocol 2 only"):
        client.add_rule(A)
    assert set(daemon.asked) == {"hello"}
    daemon.on_line = refusing({"code": -32004, "message": "there are 256 connections"}, known=False)
    with pytest.raises(mcr.DaemonError, match="there are 256 connections"):
        client.ping()


def test_unasked_words_are_passed_over(client: mcr.Client, daemon: MadeUpDaemon) -> None:
    """A notification before the answer, and an answer that comes in single bytes."""

    def drip(line: bytes, connection: socket.socket) -> bool:
        asked = json.loads(line)
        if asked["method"] != "ping":
            return False
        result = {"revision": 3, "workers": {"running": 0, "of": 1}, "uptime_s": 1, "new": []}
        answer = {"jsonrpc": "2.0", "id": asked["id"], "result": result}
        connection.sendall(b'{"jsonrpc":"2.0","method":"news","params":{}}\n')
        for byte in json.dumps(answer).encode() + b"\n":
            connection.sendall(bytes([byte]))
        return True

    daemon.on_line = drip
    assert client.ping() == mcr.Pong(3, 0, 1, 1.0)


def test_a_task_that_is_cancelled(daemon: MadeUpDaemon, path: Path) -> None:
    """The next question gets its own answer."""
    daemon.on_line = lambda line, _: b"ping" in line

    async def cancel_and_ask() -> int:
        async with mcr.AsyncClient(path) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.ping(), 0.1)
            return (await client.rules()).revision

    assert asyncio.run(cancel_and_ask()) == 0


def test_refusals_are_exceptions(client: mcr.Client, daemon: MadeUpDaemon) -> None:
    """With the daemon's sentence, and the field where there is one."""
    with pytest.raises(mcr.RuleError) as refused:
        client.add_rules(["239.1.1.1%lo:0 to 127.0.0.1:7001", "x to y:1"])
    fields = [problem.field for problem in refused.value.problems]
    assert fields[0] == "rule 1, input, port"
    assert len(fields) >= 2
    with pytest.raises(mcr.RuleError, match="there is no rule with the id or name 'nobody'"):
        client.rule("nobody")
    with pytest.raises(mcr.DaemonError, match="the parameters are wrong; level: 'loud' is no"):
        client.set_log_level("loud")
    for code, kind in (
        (-32004, mcr.DaemonError),
        (-32005, mcr.DaemonError),
        (-32006, mcr.InterfaceError),
        (-32007, mcr.RightsError),
        (-32008, mcr.EngineError),
        (-32603, mcr.DaemonError),
    ):
        daemon.on_line = refusing({"code": code, "message": f"no {code}"})
        with pytest.raises(kind, match=f"no {code}"):
            client.ping()
    daemon.on_line = None
    assert client.ping(), "a refusal costs no connection"
    assert daemon.asked.count("hello") == 1


def refusing(error: object, *, known: bool = True) -> Callable[[bytes, socket.socket], bool]:
    """Answer all but greetings with this error; with `known` off all, as if no id could be read."""

    def on_line(line: bytes, connection: socket.socket) -> bool:
        asked = json.loads(line)
        if known and asked["method"] == "hello":
            return False
        answer = {"jsonrpc": "2.0", "id": asked["id"] if known else None, "error": error}
        connection.sendall(json.dumps(answer).encode() + b"\n")
        return True

    return on_line


def test_the_end_of_a_daemon_without_an_answer(client: mcr.Client, daemon: MadeUpDaemon) -> None:
    """Nobody asks twice for it, and its words are no change's."""

    def end(line: bytes, connection: socket.socket) -> bool:
        if b"shutdown" in line:
            connection.shutdown(socket.SHUT_RDWR)
        return b"shutdown" in line

    daemon.on_line = end
    with pytest.raises(mcr.DaemonError, match="without an answer; it may be ending"):
        client.shutdown()


def test_a_user_is_told_of_the_daemon_of_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who started one with sudo and asks without it."""
    own, roots = tmp_path / "own.sock", tmp_path / "root.sock"
    monkeypatch.setattr("mcr.client.session.default_socket", lambda: own)
    monkeypatch.setattr("mcr.client.session.ROOT_SOCKET", roots)
    with mcr.Client(own) as client:
        with pytest.raises(mcr.DaemonError, match=r"start one with mcr serve$"):
            client.ping()
        roots.touch()
        with pytest.raises(mcr.DaemonError, match=r"ask that of root with --socket .*root\.sock$"):
            client.ping()


@contextmanager
def listening(path: Path, backlog: int, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """Something that is no daemon: `serve` gets each connection that is accepted."""
    stop = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(backlog)
        listener.settimeout(0.01)

        def accept() -> None:
            while not stop.is_set():
                with suppress(TimeoutError):
                    connection, _ = listener.accept()
                    with connection:
                        serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(10)


def test_a_connection_that_ends_at_once(path: Path, opened: Opener) -> None:
    """It is no daemon that is well; nothing is waited for."""
    began_s = time.monotonic()
    with (
        listening(path, 8, lambda _: None),
        pytest.raises(mcr.DaemonError, match=r"ended the connection at once$"),
    ):
        opened().ping()
    assert time.monotonic() - began_s < 4


def test_a_refusal_before_the_request_was_read(path: Path, opened: Opener) -> None:
    """The words that came before the end are what the user reads."""
    refusal = {"jsonrpc": "2.0", "id": None, "error": {"code": -32007, "message": "not you"}}

    def refuse(connection: socket.socket) -> None:
        connection.sendall(json.dumps(refusal).encode() + b"\n")

    with listening(path, 8, refuse), pytest.raises(mcr.RightsError, match="not you"):
        opened().ping()


def test_a_daemon_that_reads_nothing(daemon: MadeUpDaemon, opened: Opener) -> None:
    """A request that never arrived as a whole was not carried out: there is no doubt."""
    release = threading.Event()

    def greet_and_sleep(line: bytes, connection: socket.socket) -> bool:
        daemon.answer(line, connection)
        release.wait(20)
        return True

    daemon.on_line = greet_and_sleep
    try:
        with pytest.raises(mcr.DaemonError, match=r"did not answer within 0\.3 s$"):
            opened(timeout_s=0.3).add_rule("x" * (8 << 20))
    finally:
        release.set()


def test_a_full_queue_of_connections(path: Path, opened: Opener) -> None:
    """It is waited for room, in the client's time; being full is no being gone."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        waiting = []
        while True:
            made = socket.socket(socket.AF_UNIX)
            made.setblocking(False)
            waiting.append(made)
            try:
                made.connect(str(path))
            except BlockingIOError:
                break
        with pytest.raises(mcr.DaemonError, match="takes no connection: too many wait"):
            opened(timeout_s=0.2).ping()
        for made in waiting:
            made.close()


def test_a_daemon_of_another_protocol(client: mcr.Client, daemon: MadeUpDaemon) -> None:
    """One that greets all the same, with its own number."""

    def greet(line: bytes, connection: socket.socket) -> bool:
        result = {"protocol": 9, "server": "mcr 9", "pid": 1, "revision": 0, "ingress": "udp"}
        result |= {"workers": 1, "sequence": 0}
        answer = {"jsonrpc": "2.0", "id": json.loads(line)["id"], "result": result}
        connection.sendall(json.dumps(answer).encode() + b"\n")
        return True

    daemon.on_line = greet
    with pytest.raises(mcr.DaemonError, match="speaks protocol 9, this client 1: use the mcr"):
        client.add_rule(A)


def test_no_right_to_connect(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group of the socket is what helps."""

    def refuse(_: Path) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("mcr.client.sync.connected_socket", refuse)
    monkeypatch.setattr("mcr.client.aio.connected_socket", refuse)
    with pytest.raises(mcr.RightsError, match="become a member of the socket's group"):
        opened().ping()
