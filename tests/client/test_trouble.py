"""Clients of a daemon that restarts, is silent or does not run."""

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
from tests.support.fake_supervisor import FakeSupervisor
from tests.support.line_proxy import LineProxy, Script, answering, send_message

import mcr

from .clients import Opener

A = "239.1.1.1%lo:5001,name=feed-a to 127.0.0.1:7001"
B = "239.1.1.2%lo:5001 to 239.2.0.2%lo:6001,ttl=8 127.0.0.1:7001"


def test_no_daemon(opened: Opener, path: Path) -> None:
    """No socket, a stale socket, a file that is no socket: each has its error, at once."""
    began_s = time.monotonic()
    with pytest.raises(mcr.DaemonError) as error:
        opened(path).ping()
    assert str(error.value) == f"no daemon listens at {path}; start one with mcr serve"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    with pytest.raises(mcr.DaemonError, match="has exited and left its socket behind; start it"):
        opened(path).add_rule(A)
    path.unlink()
    path.touch()
    with pytest.raises(mcr.DaemonError, match=r"mcr\.sock is not a socket; name the one that"):
        opened(path).ping()
    assert time.monotonic() - began_s < 4, "it does not wait for a daemon that never was"


@pytest.mark.parametrize("name", ["x" * 200, "mcr\0sock"])
def test_an_invalid_path(name: str) -> None:
    """It can be that of no socket, so no connection is to blame."""
    for kind in (mcr.Client, mcr.AsyncClient):
        with pytest.raises(mcr.ArgumentError, match=r"socket: must be a path of at most 107 bytes"):
            kind(name)


def test_reading_continues_after_a_restart(
    proxied: mcr.Client, proxy: LineProxy, control: FakeSupervisor
) -> None:
    """Control was replaced between two requests: the client reconnects."""
    proxied.add_rule(A)
    control.restart_control()
    assert len(proxied.rules()) == 1
    assert proxy.methods.count("hello") == 2


def test_a_change_that_was_not_sent_is_made(
    proxied: mcr.Client, proxy: LineProxy, control: FakeSupervisor, revision: int
) -> None:
    """The connection had ended before the request, so the client sends it again."""
    proxied.ping()
    control.restart_control()
    assert proxied.add_rule(A).revision == revision + 1
    assert proxy.methods.count("rules.add") == 1


def test_a_change_without_an_answer_is_left_in_doubt(
    proxied: mcr.Client, proxy: LineProxy, revision: int
) -> None:
    """It is not repeated: the error says what to compare."""
    proxied.add_rule(A)
    proxy.script = hanging_up("rules.add")
    with pytest.raises(mcr.DaemonError) as error:
        proxied.add_rule(B)
    assert "the change may or may not have been made: compare the revision" in str(error.value)
    assert f"was {revision + 1} in its last answer" in str(error.value)
    assert proxy.methods.count("rules.add") == 2
    with pytest.raises(mcr.DaemonError, match=r"closed the connection without an answer$"):
        proxied.add_rule(B, dry_run=True)  # which may be asked twice, and was
    assert proxy.methods.count("rules.add") == 4
    proxy.script = None
    assert proxied.ping().revision == revision + 1


def hanging_up(method: str) -> Script:
    """A script that ends the connection of a client that calls this method."""

    def script(line: bytes, connection: socket.socket) -> bool:
        is_called: bool = json.loads(line)["method"] == method
        if is_called:
            connection.shutdown(socket.SHUT_RDWR)
        return is_called

    return script


def test_the_client_waits_for_a_restarted_daemon(
    proxied: mcr.Client, proxy: LineProxy, opened: Opener
) -> None:
    """As after an update: no socket for a while, then another daemon at the same path."""
    proxied.ping()
    proxy.stop()
    timer = threading.Timer(0.3, proxy.start)
    timer.start()
    assert proxied.ping()
    timer.join()
    short = opened(proxy.path, timeout_s=0.3)
    short.ping()
    proxy.stop()
    with pytest.raises(mcr.DaemonError, match="no daemon listens at"):
        short.ping()


def test_a_silent_daemon(proxy: LineProxy, opened: Opener) -> None:
    """The time limit holds, and a late answer is not taken for the next request's."""
    client = opened(proxy.path, timeout_s=0.2)
    client.ping()
    held: list[tuple[bytes, socket.socket]] = []

    def hold(line: bytes, connection: socket.socket) -> bool:
        if b"hello" in line or len(held) == 1:
            return False
        held.append((line, connection))
        return True

    proxy.script = hold
    began_s = time.monotonic()
    with pytest.raises(mcr.DaemonError, match=r"did not answer within 0\.2 s$"):
        client.ping()
    assert time.monotonic() - began_s < 2
    proxy.pass_on(*held[0])
    assert client.rules().rules == ()


def test_a_change_and_a_silent_daemon(proxy: LineProxy, opened: Opener) -> None:
    """The error says that the change may have been made."""
    client = opened(proxy.path, timeout_s=0.2)
    proxy.script = lambda line, _: b"rules.add" in line
    with pytest.raises(mcr.DaemonError, match=r"did not answer within 0\.2 s; the change may or"):
        client.add_rule(A)


def test_a_greeting_that_is_refused(
    proxied: mcr.Client, proxy: LineProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another protocol: the daemon's error, and no further request."""
    with monkeypatch.context() as later:
        later.setattr("mcr.client.methods.PROTOCOL", 2)
        with pytest.raises(mcr.DaemonError, match="this daemon speaks protocol 1, not 2"):
            proxied.add_rule(A)
    assert set(proxy.methods) == {"hello"}
    proxy.script = refusing({"code": -32004, "message": "there are 256 connections"}, known=False)
    with pytest.raises(mcr.DaemonError, match="there are 256 connections"):
        proxied.ping()


def test_unrequested_messages_are_skipped(proxied: mcr.Client, proxy: LineProxy) -> None:
    """A notification before the answer, and an answer in single bytes."""

    def drip(line: bytes, connection: socket.socket) -> bool:
        asked = json.loads(line)
        if asked["method"] != "ping":
            return False
        result = {"revision": 3, "workers": {"running": 0, "of": 1}, "uptime_s": 1, "new": []}
        answer = {"jsonrpc": "2.0", "id": asked["id"], "result": result}
        send_message(connection, {"jsonrpc": "2.0", "method": "news", "params": {}})
        for byte in json.dumps(answer).encode() + b"\n":
            connection.sendall(bytes([byte]))
        return True

    proxy.script = drip
    assert proxied.ping() == mcr.Pong(3, mcr.WorkerCount(0, 1), 1.0)


def test_a_task_that_is_cancelled(proxy: LineProxy, revision: int) -> None:
    """The next request gets its own answer."""
    proxy.script = lambda line, _: b"ping" in line

    async def cancel_and_ask() -> int:
        async with mcr.AsyncClient(proxy.path) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.ping(), 0.1)
            return (await client.rules()).revision

    assert asyncio.run(cancel_and_ask()) == revision


def test_refusals_are_exceptions(proxied: mcr.Client, proxy: LineProxy) -> None:
    """With the daemon's message, and the field where there is one."""
    with pytest.raises(mcr.RuleError) as refused:
        proxied.add_rules(["239.1.1.1%lo:0 to 127.0.0.1:7001", "x to y:1"])
    fields = [problem.field for problem in refused.value.problems]
    assert fields[0] == "rule 1, input, port"
    assert len(fields) >= 2
    with pytest.raises(mcr.RuleError, match="there is no rule with the id or name 'nobody'"):
        proxied.rule("nobody")
    with pytest.raises(mcr.ArgumentError, match=r"level: .*'debug', .*'alert' or 'emergency'"):
        proxied.set_log_level("loud")
    for code, kind in (
        (-32004, mcr.DaemonError),
        (-32005, mcr.DaemonError),
        (-32006, mcr.InterfaceError),
        (-32007, mcr.RightsError),
        (-32008, mcr.EngineError),
        (-32603, mcr.DaemonError),
    ):
        proxy.script = refusing({"code": code, "message": f"no {code}"})
        with pytest.raises(kind, match=f"no {code}"):
            proxied.ping()
    proxy.script = None
    assert proxied.ping(), "a refusal costs no connection"
    assert proxy.methods.count("hello") == 1


def refusing(error: object, *, known: bool = True) -> Script:
    """A script that refuses all but greetings; with `known` off all, without a request's id."""

    def script(line: bytes, connection: socket.socket) -> bool:
        asked = json.loads(line)
        if known and asked["method"] == "hello":
            return False
        number = asked["id"] if known else None
        send_message(connection, {"jsonrpc": "2.0", "id": number, "error": error})
        return True

    return script


def test_a_shutdown_without_an_answer(proxied: mcr.Client, proxy: LineProxy) -> None:
    """It is not repeated, and its error does not speak of a change."""
    proxy.script = hanging_up("shutdown")
    with pytest.raises(mcr.DaemonError, match="without an answer; it may be shutting down"):
        proxied.shutdown()
    assert proxy.methods.count("shutdown") == 1


def test_the_error_names_the_daemon_of_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For users who started the daemon with sudo and run a command without it."""
    own, roots = tmp_path / "own.sock", tmp_path / "root.sock"
    monkeypatch.setattr("mcr.client.session.default_socket", lambda: own)
    monkeypatch.setattr("mcr.client.session.ROOT_SOCKET", roots)
    with mcr.Client(own) as client:
        with pytest.raises(mcr.DaemonError, match=r"start one with mcr serve$"):
            client.ping()
        roots.touch()
        with pytest.raises(mcr.DaemonError, match=r"use that of root with --socket .*root\.sock$"):
            client.ping()


@contextmanager
def listening(path: Path, backlog: int, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """A socket of another program: `serve` gets each accepted connection."""
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
    """The client does not wait for another attempt."""
    began_s = time.monotonic()
    with (
        listening(path, 8, lambda _: None),
        pytest.raises(mcr.DaemonError, match=r"closed the connection at once$"),
    ):
        opened(path).ping()
    assert time.monotonic() - began_s < 4


def test_a_refusal_before_the_request_was_read(path: Path, opened: Opener) -> None:
    """The user reads the error that was sent before the connection ended."""
    refusal = {"jsonrpc": "2.0", "id": None, "error": {"code": -32007, "message": "not you"}}

    def refuse(connection: socket.socket) -> None:
        connection.sendall(json.dumps(refusal).encode() + b"\n")

    with listening(path, 8, refuse), pytest.raises(mcr.RightsError, match="not you"):
        opened(path).ping()


def test_a_daemon_that_reads_nothing(proxy: LineProxy, opened: Opener) -> None:
    """An incomplete request was not executed, so the error expresses no doubt."""
    release = threading.Event()

    def greet_and_sleep(line: bytes, connection: socket.socket) -> bool:
        proxy.pass_on(line, connection)
        release.wait(20)
        return True

    proxy.script = greet_and_sleep
    try:
        with pytest.raises(mcr.DaemonError, match=r"did not answer within 0\.3 s$"):
            opened(proxy.path, timeout_s=0.3).add_rule("x" * (8 << 20))
    finally:
        release.set()


def test_a_full_backlog(path: Path, opened: Opener) -> None:
    """The client retries within its time limit."""
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
        with pytest.raises(mcr.DaemonError, match="accepts no connection: its backlog is full"):
            opened(path, timeout_s=0.2).ping()
        for made in waiting:
            made.close()


def test_a_daemon_of_another_protocol(proxied: mcr.Client, proxy: LineProxy) -> None:
    """It answers the greeting with its own version."""
    result: dict[str, object] = {"protocol": 9, "server": "mcr 9", "pid": 1, "revision": 0}
    result |= {"ingress": "udp", "workers": 1, "sequence": 0}
    proxy.script = answering(lambda _: result)
    with pytest.raises(mcr.DaemonError, match="speaks protocol 9, this client 1: use the mcr"):
        proxied.add_rule(A)


def test_no_right_to_connect(opened: Opener, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error suggests the socket's group."""

    def refuse(_: Path) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("mcr.client.wire.open_connection", refuse)
    monkeypatch.setattr("mcr.client.aio.open_connection", refuse)
    with pytest.raises(mcr.RightsError, match="become a member of the socket's group"):
        opened(path).ping()
