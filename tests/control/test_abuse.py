"""Clients that are idle, slow, huge or malicious: nobody else waits for them."""

import contextlib
import json
import os
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
from tests.support.fake_supervisor import FakeSupervisor, Talk, daemon, until
from tests.support.pinger import PING_S, undelayed

from mcr.daemon.control import limits
from mcr.daemon.control.api.methods import SHAPES
from mcr.protocol.constants import LINE_BYTES, ErrorCode

from .test_process import many

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
# All but what ends the daemon or lets it read the rest as something else.
METHODS = st.sampled_from(sorted(SHAPES.keys() - {"shutdown"})) | st.text(max_size=9)
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
    """One control process for all of it."""
    with (
        tempfile.TemporaryDirectory(prefix="mcr-", dir="/tmp") as directory,
        daemon(Path(directory)) as supervisor,
    ):
        yield supervisor


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(LINES, max_size=5), st.booleans())
def test_any_bytes_delay_nobody(attacked: FakeSupervisor, lines: list[bytes], half: bool) -> None:
    """Each line that wants an answer gets one, and others theirs in time."""
    with Talk(attacked.path) as other, Talk(attacked.path) as talk:
        other.call("ping")
        with contextlib.suppress(OSError):
            talk.send(b"\n".join(lines) + (b"" if half else b"\n"))
        began_s = time.perf_counter()
        other.call("ping")
        waited_s = time.perf_counter() - began_s
        talk.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(EOFError):
            while True:
                answer = talk.line()
                for each in answer if isinstance(answer, list) else [answer]:
                    assert each["jsonrpc"] == "2.0"
    if waited_s >= PING_S:
        undelayed(attacked.path, lambda: send_all(attacked.path, b"\n".join(lines)))
    assert attacked.process.poll() is None
    assert "Traceback" not in attacked.said()


def send_all(path: Path, data: bytes) -> None:
    """Send this, and wait for the end of all answers."""
    with Talk(path) as talk, contextlib.suppress(OSError):
        talk.send(data)
        talk.socket.shutdown(socket.SHUT_WR)
        assert talk.is_closed()


def test_an_endless_line_is_cut_off(attacked: FakeSupervisor) -> None:
    """At the limit, with an error that says so."""

    def work() -> None:
        with Talk(attacked.path) as talk:
            block = b"x" * (1 << 20)
            with contextlib.suppress(OSError):
                for _ in range(LINE_BYTES // len(block) + 2):
                    talk.send(block)
            assert talk.line()["error"]["code"] == ErrorCode.LIMIT
            assert talk.is_closed()

    undelayed(attacked.path, work)


@pytest.mark.parametrize(
    "unit",
    [b"[],", b"{},", b'"x",', b"1,", b'"\\u0041\\n",', b"[" * 1000, b"12345678901234567890,"],
)
def test_huge_lines_delay_nobody(attacked: FakeSupervisor, unit: bytes) -> None:
    """Whatever they are full of, and though several send them."""
    line = b'{"jsonrpc":"2.0","id":1,"method":"rules.add","params":{"rules":['
    line += unit * ((LINE_BYTES - len(line) - 10) // len(unit)) + b"1]}}\n"

    def work() -> None:
        talks = [Talk(attacked.path) for _ in range(3)]
        threads = [threading.Thread(target=talk.send, args=(line,)) for talk in talks]
        for thread in threads:
            thread.start()
        for talk in talks:
            assert talk.line()["error"]["code"] in {-32700, -32004, -32602, -32000}
        for thread in threads:
            thread.join()
        for talk in talks:
            talk.socket.close()

    undelayed(attacked.path, work)


def test_a_thousand_connections(attacked: FakeSupervisor) -> None:
    """The longest idle make room; a newcomer is served."""
    talks: list[Talk] = []
    try:
        began_s = time.perf_counter()
        for number in range(1000):
            talks.append(Talk(attacked.path))
            if number % 2:
                talks[-1].send(b'{"half":')
        talks[-1].send(b"1}\n")
        assert talks[-1].line()["error"]["code"] == ErrorCode.INVALID_REQUEST
        assert time.perf_counter() - began_s < 10
        undelayed(attacked.path, lambda: None)
        assert talks[0].is_closed()
    finally:
        for talk in talks:
            talk.socket.close()


def test_subscribers_are_not_sent_away_for_newcomers(attacked: FakeSupervisor) -> None:
    """Where nobody is idle, it is the newcomer who cannot be served."""
    talks: list[Talk] = []
    try:
        for _ in range(limits.CONNECTIONS):
            talks.append(Talk(attacked.path))
            talks[-1].call("events.subscribe", kinds=["worker"])
        with Talk(attacked.path) as late:
            assert late.line()["error"]["code"] == ErrorCode.LIMIT
            assert late.is_closed()
        assert talks[0].call("ping")
    finally:
        for talk in talks:
            talk.socket.close()


def test_a_lack_of_descriptors_is_waited_out(attacked: FakeSupervisor) -> None:
    """Who is served is still served, and nothing spins."""
    pid = attacked.process.pid
    limit = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with Talk(attacked.path) as talk:
        talk.call("ping")
        used = {int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()}
        free = min(set(range(len(used) + 1)) - used)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, limit[1]))
        try:
            with Talk(attacked.path) as late:
                until(lambda: "no connection can be accepted" in attacked.said(), "the log")
                began_s = cpu_s(pid)
                until(lambda: attacked.said().count("no connection") > 1, "another try")
                assert cpu_s(pid) - began_s < 0.5
                assert talk.call("ping")
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
                assert late.call("ping")
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)


def cpu_s(pid: int) -> float:
    """What a process has used of a CPU."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_subscriber_that_never_reads(attacked: FakeSupervisor) -> None:
    """It costs the daemon a bounded number of events, and is told how many it missed."""
    worker = attacked.workers[0]
    with Talk(attacked.path) as deaf, Talk(attacked.path) as talk:
        deaf.call("events.subscribe", kinds=["interface"])
        detail = "x" * 2000
        numbers = iter(range(100_000))

        def work() -> None:
            for number in islice(numbers, 4000):
                worker.push(event="link", name="lo", index=number, change="mtu", detail=detail)
            talk.call("rules.list")

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
    """In order; whoever sends thousands is read no faster than served."""
    ping = {"jsonrpc": "2.0", "method": "ping"}
    lines = b"".join(json.dumps(ping | {"id": n}).encode() + b"\n" for n in range(20_000))

    def work() -> None:
        with Talk(attacked.path) as talk:
            sender = threading.Thread(target=talk.send, args=(lines,))
            sender.start()
            assert [talk.line()["id"] for _ in range(20_000)] == list(range(20_000))
            sender.join()

    undelayed(attacked.path, work)


def test_blank_lines_are_nothing(attacked: FakeSupervisor) -> None:
    """However many."""

    def work() -> None:
        with Talk(attacked.path) as talk:
            talk.send(b"\n" * 100_000)
            assert talk.call("ping")

    undelayed(attacked.path, work)


def test_mistakes_are_not_logged(attacked: FakeSupervisor) -> None:
    """Clients fill no log."""
    before = attacked.said()
    with Talk(attacked.path) as talk:
        talk.error("rules.add", rules=["nonsense"])
        talk.error("nonsense")
        talk.send(b"nonsense\n")
        talk.line()
    assert attacked.said() == before


@pytest.mark.timeout(240)
def test_ten_thousand_rules_delay_nobody(directory: Path) -> None:
    """Neither the change, nor the readings, nor one rule changed among them."""
    with daemon(directory, workers=2) as supervisor, Talk(supervisor.path, 60) as talk:
        rules = many(10_000)
        added: list[dict[str, str]] = []

        def change() -> None:
            talk.call("rules.replace", rules=[])
            added[:] = talk.call("rules.add", rules=rules)["added"]

        def read() -> None:
            assert len(talk.call("stats")["rules"]) == 10_000
            assert len(talk.call("rules.list")["rules"]) == 10_000

        undelayed(supervisor.path, change)
        assert len(added) == 10_000
        undelayed(supervisor.path, read)
        times_s: list[float] = []
        for turn in range(10):
            began_s = time.perf_counter()
            talk.call("rules.enable" if turn % 2 else "rules.disable", rules=[added[0]["id"]])
            times_s.append(time.perf_counter() - began_s)
        assert min(times_s) < PING_S / 4
