"""Clients that are idle, slow, huge or malicious delay no other client."""

import contextlib
import json
import resource
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.deadline import wait_until
from tests.support.fake_supervisor import FakeSupervisor, control_process
from tests.support.pinger import PING_S, undelayed
from tests.support.raw_client import RawClient
from tests.topology.daemons import cpu_s

from mcr.daemon.control import limits
from mcr.daemon.control.api.method_types import METHOD_TYPES
from mcr.protocol.constants import LINE_BYTES, ErrorCode

from .test_process import many

pytestmark = pytest.mark.alone

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
# All but what ends the daemon or lets it read the rest as something else.
METHODS = st.sampled_from(sorted(METHOD_TYPES.keys() - {"shutdown"})) | st.text(max_size=9)
PARAM_NAMES = st.sampled_from(["rules", "rule", "kinds", "after", "level", "enabled", "dry_run"])
REQUESTS = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | JSON_VALUES, "method": METHODS | JSON_VALUES},
    optional={
        "id": st.integers() | JSON_VALUES,
        "params": st.dictionaries(PARAM_NAMES, JSON_VALUES, max_size=3) | JSON_VALUES,
    },
)
LINES = st.one_of(
    st.binary(max_size=200),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    REQUESTS.map(lambda value: json.dumps(value).encode()),
    st.lists(REQUESTS, max_size=4).map(lambda value: json.dumps(value).encode()),
)


@pytest.fixture(scope="module")
def attacked() -> Iterator[FakeSupervisor]:
    """One control process for all attacks."""
    with (
        tempfile.TemporaryDirectory(prefix="mcr-", dir="/tmp") as directory,
        control_process(Path(directory)) as supervisor,
    ):
        yield supervisor


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(LINES, max_size=5), st.booleans())
def test_any_bytes_delay_no_client(
    attacked: FakeSupervisor, lines: list[bytes], half: bool
) -> None:
    """Each line that wants an answer gets one, and other clients theirs in time."""
    with RawClient(attacked.path) as other, RawClient(attacked.path) as client:
        other.call("ping")
        with contextlib.suppress(OSError):
            client.send(b"\n".join(lines) + (b"" if half else b"\n"))
        began_s = time.perf_counter()
        other.call("ping")
        waited_s = time.perf_counter() - began_s
        client.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(EOFError):
            while True:
                answer = client.line()
                for each in answer if isinstance(answer, list) else [answer]:
                    assert each["jsonrpc"] == "2.0"
    if waited_s >= PING_S:
        undelayed(attacked.path, lambda: send_all(attacked.path, b"\n".join(lines)))
    assert attacked.process.poll() is None
    assert "Traceback" not in attacked.said()


def send_all(path: Path, data: bytes) -> None:
    """Send these bytes, and wait until all answers have ended."""
    with RawClient(path) as client, contextlib.suppress(OSError):
        client.send(data)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.is_closed()


def test_an_endless_line_is_refused(attacked: FakeSupervisor) -> None:
    """At the limit, with an error."""

    def work() -> None:
        with RawClient(attacked.path) as client:
            block = b"x" * (1 << 20)
            with contextlib.suppress(OSError):
                for _ in range(LINE_BYTES // len(block) + 2):
                    client.send(block)
            assert client.line()["error"]["code"] == ErrorCode.LIMIT
            assert client.is_closed()

    undelayed(attacked.path, work)


@pytest.mark.parametrize(
    "unit",
    [b"[],", b"{},", b'"x",', b"1,", b'"\\u0041\\n",', b"[" * 1000, b"12345678901234567890,"],
)
def test_huge_lines_delay_no_client(attacked: FakeSupervisor, unit: bytes) -> None:
    """Whatever they contain, and if several clients send them."""
    line = b'{"jsonrpc":"2.0","id":1,"method":"rules.add","params":{"rules":['
    line += unit * ((LINE_BYTES - len(line) - 10) // len(unit)) + b"1]}}\n"

    def work() -> None:
        clients = [RawClient(attacked.path) for _ in range(3)]
        threads = [threading.Thread(target=client.send, args=(line,)) for client in clients]
        for thread in threads:
            thread.start()
        for client in clients:
            assert client.line()["error"]["code"] in {-32700, -32004, -32602, -32000}
        for thread in threads:
            thread.join()
        for client in clients:
            client.socket.close()

    undelayed(attacked.path, work)


def test_a_thousand_connections(attacked: FakeSupervisor) -> None:
    """The connections idle the longest are closed for new ones."""
    clients: list[RawClient] = []
    try:
        began_s = time.perf_counter()
        for number in range(1000):
            clients.append(RawClient(attacked.path))
            if number % 2:
                clients[-1].send(b'{"half":')
        clients[-1].send(b"1}\n")
        assert clients[-1].line()["error"]["code"] == ErrorCode.INVALID_REQUEST
        assert time.perf_counter() - began_s < 10
        undelayed(attacked.path, lambda: None)
        assert clients[0].is_closed()
    finally:
        for client in clients:
            client.socket.close()


def test_subscribers_stay_connected(attacked: FakeSupervisor) -> None:
    """If no connection is idle, the new one is refused."""
    clients: list[RawClient] = []
    try:
        for _ in range(limits.CONNECTIONS):
            clients.append(RawClient(attacked.path))
            clients[-1].call("events.subscribe", kinds=["worker"])
        with RawClient(attacked.path) as late:
            assert late.line()["error"]["code"] == ErrorCode.LIMIT
            assert late.is_closed()
        assert clients[0].call("ping")
    finally:
        for client in clients:
            client.socket.close()


def test_a_lack_of_descriptors_is_waited_out(attacked: FakeSupervisor) -> None:
    """Open connections are served, and control does not spin."""
    pid = attacked.process.pid
    limit = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with RawClient(attacked.path) as client:
        client.call("ping")
        used = {int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()}
        free = min(set(range(len(used) + 1)) - used)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, limit[1]))
        try:
            with RawClient(attacked.path) as late:
                wait_until(
                    lambda: "no connection can be accepted" in attacked.said(), what="the log"
                )
                began_s = cpu_s(pid)
                wait_until(lambda: attacked.said().count("no connection") > 1, what="another try")
                assert cpu_s(pid) - began_s < 0.5
                assert client.call("ping")
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
                assert late.call("ping")
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)


def test_a_subscriber_that_never_reads(attacked: FakeSupervisor) -> None:
    """It costs a bounded number of events, and the number of missed ones is reported."""
    worker = attacked.workers[0]
    with RawClient(attacked.path) as deaf, RawClient(attacked.path) as client:
        deaf.call("events.subscribe", kinds=["interface"])
        detail = "x" * 2000
        numbers = iter(range(100_000))

        def work() -> None:
            for number in islice(numbers, 4000):
                worker.push(event="link", name="lo", index=number, change="mtu", detail=detail)
            client.call("rules.list")

        undelayed(attacked.path, work)
        told = next(numbers)
        seen, missed = 0, 0
        while seen + missed < told:
            event = deaf.line()["params"]
            if event["event"] == "gap":
                missed += event["missed"]
            else:
                assert event["index"] == seen + missed
                seen += 1
        assert missed > 0


def test_pipelined_requests_wait_for_their_turn(attacked: FakeSupervisor) -> None:
    """In order; of thousands, only as many are read as are answered."""
    ping = {"jsonrpc": "2.0", "method": "ping"}
    lines = b"".join(json.dumps(ping | {"id": n}).encode() + b"\n" for n in range(20_000))

    def work() -> None:
        with RawClient(attacked.path) as client:
            sender = threading.Thread(target=client.send, args=(lines,))
            sender.start()
            assert [client.line()["id"] for _ in range(20_000)] == list(range(20_000))
            sender.join()

    undelayed(attacked.path, work)


def test_blank_lines_are_ignored(attacked: FakeSupervisor) -> None:
    """However many."""

    def work() -> None:
        with RawClient(attacked.path) as client:
            client.send(b"\n" * 100_000)
            assert client.call("ping")

    undelayed(attacked.path, work)


def test_errors_of_clients_are_not_logged(attacked: FakeSupervisor) -> None:
    """So that clients cannot fill the log."""
    before = attacked.said()
    with RawClient(attacked.path) as client:
        client.error("rules.add", rules=["nonsense"])
        client.error("nonsense")
        client.send(b"nonsense\n")
        client.line()
    assert attacked.said() == before


@pytest.mark.timeout(240)
def test_ten_thousand_rules_delay_no_client(directory: Path) -> None:
    """Neither the change, nor reading them, nor changing one of them."""
    with (
        control_process(directory, workers=2) as supervisor,
        RawClient(supervisor.path, 60) as client,
    ):
        rules = many(10_000)
        added: list[dict[str, str]] = []

        def change() -> None:
            client.call("rules.replace", rules=[])
            added[:] = client.call("rules.add", rules=rules)["added"]

        def read() -> None:
            assert len(client.call("stats")["rules"]) == 10_000
            assert len(client.call("rules.list")["rules"]) == 10_000

        undelayed(supervisor.path, change)
        assert len(added) == 10_000
        undelayed(supervisor.path, read)
        began_s, turns = cpu_s(supervisor.process.pid), 10
        for turn in range(turns):
            client.call("rules.enable" if turn % 2 else "rules.disable", rules=[added[0]["id"]])
        # Of its own processor time: meanwhile the supervisor of this test reads all rules.
        assert (cpu_s(supervisor.process.pid) - began_s) / turns < PING_S / 2
