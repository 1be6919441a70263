"""Who is answered: addresses, tokens, names; and what hostile clients can do."""

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.web_process import WebProcess, web_process
from tests.topology.daemons import Daemon, memory_kib

from mcr.cli import main
from mcr.web import limits

TOKEN = "0123456789abcdef-secret"


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the token."""
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def guarded(observers: Path, token_file: Path) -> Iterator[WebProcess]:
    """A server that needs a token."""
    with web_process(observers, "--token-file", str(token_file), "--name", "MCR.example") as made:
        yield made


def test_a_token_is_needed(guarded: WebProcess) -> None:
    """As a bearer token, or by the cookie of the login; health is open, without reasons."""
    for path in ("/metrics", "/api/stats", "/api/stream", "/static/main.js", "/nowhere"):
        answer = guarded.request(path)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert guarded.request(path, authorization=f"Bearer {TOKEN}x").status == 401
        assert guarded.request(path, authorization=f"Basic {TOKEN}").status == 401
        assert guarded.request(path, cookie="mcr_session=; mcr_session=x").status == 401
    assert guarded.request("/metrics", authorization=f"bearer  {TOKEN}").status == 200
    wait_until(lambda: guarded.request("/readyz").json == {"ready": True})
    assert guarded.request("/healthz").status == 200
    assert guarded.request("/").headers["Location"] == "/login"


def test_the_login_sets_a_cookie(guarded: WebProcess) -> None:
    """It does not hold the token, and scripts cannot read it."""
    assert guarded.request("/login").status == 200
    refused = guarded.request("/login", "POST", body="token=wrong")
    assert (refused.status, b"This is not the token." in refused.body) == (403, True)
    assert guarded.request("/login", "POST", body="&".join(["a=b"] * 9)).status == 403
    assert guarded.request("/login", "POST", body="\xff%ff=%00").status == 403
    assert guarded.request("/login", "POST", body="token=" + "x" * 9000).status == 413
    answer = guarded.request("/login", "POST", body=f"token={TOKEN}")
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    found = guarded.request("/api/stats", cookie=cookie.partition(";")[0])
    assert found.status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:9475", "", "[::2]:80"])
def test_other_names_are_refused(web: WebProcess, host: str) -> None:
    """So that a page of another site cannot read the answers (DNS rebinding)."""
    assert web.request("/api/stats", host=host).status == 421
    assert web.request("/healthz", host=host).status == 421


def test_own_names_are_answered(web: WebProcess, guarded: WebProcess) -> None:
    """Those of loopback with any port, and those that were given."""
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:9475", "localhost."):
        assert web.request("/healthz", host=host).status == 200
    assert guarded.request("/healthz", host="mcr.EXAMPLE:443").status == 200


def test_other_addresses_need_a_token(observers: Path, token_file: Path) -> None:
    """Also that of all interfaces; then every name is answered."""
    with web_process(observers, "--address", "0.0.0.0", "--token-file", str(token_file)) as web:
        assert web.request("/metrics", host="any.example").status == 401
        found = web.request("/healthz", host="any.example")
        assert found.status == 200
    with web_process(observers, "--address", "::1") as web:
        assert web.request("/healthz").status == 200


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--address", "0.0.0.0"], "'--token-file': is needed to listen at 0.0.0.0"),
        (["--address", "host.example"], "'host.example' is not an IPv4 or IPv6 address"),
        (["--token-file", "/no/such/file"], "/no/such/file cannot be read"),
        (["--token-file", "short"], "short must hold one line of 16 or more ASCII characters"),
        (["--token-file", "open"], "every user can read open; chmod o-r open"),
        (["--port", "70000"], "--port"),
    ],
)
def test_options_are_checked(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Each mistake is one sentence."""
    monkeypatch.chdir(tmp_path)
    for name, content, mode in (("short", "abc\n", 0o600), ("open", TOKEN, 0o644)):
        Path(name).write_text(content)
        Path(name).chmod(mode)
    assert main(["web", *arguments]) == 2
    printed = capfd.readouterr().err
    assert text in printed
    assert printed.count("\n") == 1


def test_a_port_in_use_is_named(
    web: WebProcess, capfd: pytest.CaptureFixture[str], observers: Path
) -> None:
    """One sentence, and the code of a failure."""
    assert main(["web", "--port", str(web.port), "--socket", str(observers)]) == 1
    assert f"cannot listen at 127.0.0.1, port {web.port}" in capfd.readouterr().err


def connect(web: WebProcess) -> socket.socket:
    """A connection that waits at most 20 s."""
    return socket.create_connection((web.address, web.port), timeout=20)


def is_refused(web: WebProcess, data: bytes) -> bool:
    """Whether the server answers with an error, or ends the connection."""
    with connect(web) as client:
        with contextlib.suppress(OSError):
            client.sendall(data)
        try:
            answer = client.recv(4096)
        except ConnectionResetError:
            return True
        return not answer or bool(re.match(rb"HTTP/1.1 4", answer))


def test_odd_requests_are_refused(web: WebProcess) -> None:
    """Too long, half, binary, with a body, an upgrade; without a line in the log."""
    long = b"GET /" + b"x" * (64 << 10) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    header = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * (64 << 10) + b"\r\n\r\n"
    odd = (b"\x00\xff\x16\x03\x01" * 50 + b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n")
    without = (b"GET / HTTP/1.1\r\n\r\n", b"GET /api/stats HTTP/1.0\r\n\r\n")
    two = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"
    for data in (long, header, *odd, *without, two):
        assert is_refused(web, data), data[:40]
    upgrade = web.request("/api/stats", connection="Upgrade", upgrade="websocket")
    assert upgrade.status == 200
    chunked = b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert is_refused(web, chunked + b"ffff\r\n" + b"z" * 0xFFFF + b"\r\n" + b"fffffff\r\n")
    assert web.request("/healthz").status == 200


def test_many_slow_clients_stay_bounded(daemon: Daemon, observers: Path) -> None:
    """Too many connections and streams, half requests, answers that are never read.

    Others are answered, memory is bounded, nothing is logged.
    """
    rules = [f"239.1.95.{n}%lo:5001 to 127.0.0.1:7001" for n in range(1, 201)]
    with daemon.client() as control:
        control.add_rules(rules)
    with web_process(observers) as web, contextlib.ExitStack() as stack:
        wait_until(lambda: web.request("/readyz").status == 200)
        before_kib = memory_kib(web.process.pid)
        streams = []
        for _ in range(limits.STREAMS + 3):
            client = stack.enter_context(connect(web))
            client.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            streams.append(client.recv(12))
        assert streams.count(b"HTTP/1.1 200") == limits.STREAMS
        assert streams[-3:] == [b"HTTP/1.1 503"] * 3
        for number in range(2 * limits.CONNECTIONS):
            client = stack.enter_context(connect(web))
            if number % 2:
                client.sendall(b"GET /api/stats HTTP/1.1\r\nHost: ")
        for _ in range(limits.ANSWERS // 2):
            client = stack.enter_context(connect(web))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with contextlib.suppress(OSError):
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        began_s = time.monotonic()
        assert web.request("/healthz").status == 200
        assert web.request("/metrics").status == 200
        assert time.monotonic() - began_s < 10
        assert memory_kib(web.process.pid) - before_kib < 80 << 10
        web.process.terminate()
        assert web.process.wait(20) == 0
        assert web.process.stderr is not None
        lines = web.process.stderr.read().splitlines()
        assert [line for line in lines if "needs no rights" not in line] == []
