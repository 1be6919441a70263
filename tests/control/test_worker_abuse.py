"""A compromised worker: control serves clients and the other workers all the same."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.deadline import wait_until
from tests.support.fake_supervisor import FakeSupervisor, control_process
from tests.support.fake_worker import FakeWorker
from tests.support.pinger import undelayed
from tests.support.raw_client import RawClient

from mcr.daemon.control.log_limits import LINES_A_SECOND, LINES_AT_ONCE

pytestmark = pytest.mark.alone

RULE = "239.1.1.1%lo:5001,name=one to 127.0.0.1:7001"
TEXTS = st.text(max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
EVENTS = st.fixed_dictionaries(
    {"event": st.sampled_from(["rules", "link", "log", "engine"]) | VALUES},
    optional={
        "rules": VALUES,
        "name": TEXTS | VALUES,
        "change": st.sampled_from(["up", "down", "mtu"]) | VALUES,
        "level": st.sampled_from(["info", "error"]) | VALUES,
        "facility": st.sampled_from(["worker", "ingress"]) | VALUES,
        "text": TEXTS | VALUES,
        "error": VALUES,
    },
)
ANSWERS = st.fixed_dictionaries(
    {"id": st.integers(0, 20) | VALUES}, optional={"ok": VALUES, "part": VALUES, "error": VALUES}
)


def frame(body: bytes) -> bytes:
    """A message with its length prefix."""
    return len(body).to_bytes(4, "little") + body


WORDS = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=60).map(frame),
    (EVENTS | ANSWERS | VALUES).map(lambda value: frame(json.dumps(value).encode())),
)


@pytest.fixture
def two(directory: Path) -> Iterator[FakeSupervisor]:
    """A control process with two workers and a rule."""
    with control_process(directory, workers=2) as supervisor:
        with RawClient(supervisor.path) as client:
            client.call("rules.add", rules=[RULE])
        yield supervisor


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(WORDS, min_size=1, max_size=6))
def test_any_messages_leave_the_other_worker_intact(
    two: FakeSupervisor, words: list[bytes]
) -> None:
    """It gets changes, and so does a successor of the compromised one."""
    bad = two.workers[0]
    with contextlib.suppress(OSError):
        bad.ours.sendall(b"".join(words))
    with RawClient(two.path) as client:
        assert client.call("ping")["workers"]["of"] == 2
        two.kill_worker(0)
        wait_until(lambda: client.call("ping")["workers"]["running"] == 2, what="both workers")
        client.call("rules.disable", rules=["one"])
        client.call("rules.enable", rules=["one"])
        assert client.call("rules.get", rule="one")["rule"]["enabled"]
    assert two.process.poll() is None
    assert "Traceback" not in two.said()
    assert {rule["enabled"] for rule in two.workers[1].rules.values()} == {True}


def flood(worker: FakeWorker, ended: threading.Event, kind: str) -> None:
    """Send new events as fast as they are read."""
    numbers = iter(range(10**9))
    while not ended.is_set():
        news = [{"event": kind, **_about(kind, next(numbers))} for _ in range(200)]
        told = b"".join(frame(json.dumps(each).encode()) for each in news)
        with contextlib.suppress(OSError), worker._write:
            worker.ours.sendall(told)
        time.sleep(0.001)  # so that answers, from another thread, come between


def _about(kind: str, number: int) -> dict[str, object]:
    if kind == "log":
        return {"level": "error", "facility": "worker", "text": f"{number} \n\x1b[2Jerror: forged"}
    return {"name": f"eth{number}", "index": number, "change": "mtu", "detail": str(number)}


@pytest.mark.parametrize("kind", ["log", "link"])
def test_a_flood_delays_no_client_and_fills_no_log(two: FakeSupervisor, kind: str) -> None:
    """Clients are answered, changes are made, and the worker is restarted soon."""
    ended, began_s, written = threading.Event(), time.monotonic(), len(two.said())
    flooding = threading.Thread(target=flood, args=(two.workers[0], ended, kind))
    flooding.start()

    def work() -> None:
        with RawClient(two.path) as client:
            for turn in ("disable", "enable") * 5:
                client.call(f"rules.{turn}", rules=["one"])
            time.sleep(1)

    try:
        undelayed(two.path, work)
        wait_until(lambda: two.restarts == [0], 30, what="its end")
        wait_until(lambda: "suppressed)" in two.said(), what="the bound of the log")
    finally:
        ended.set()
        flooding.join()
    lines = two.said()[written:].splitlines()
    assert len(lines) <= LINES_AT_ONCE + LINES_A_SECOND * (time.monotonic() - began_s)
    assert all(
        re.match("info: |(warning|error): (worker|security|control): ", line) for line in lines
    )


@pytest.mark.parametrize("kind", [b'"ok":{"x":[%s1]}', b'"event":"rules","rules":[%s1]'])
def test_a_huge_message_is_not_parsed(two: FakeSupervisor, kind: bytes) -> None:
    """Parsing it would take seconds; the channel is closed, and the worker restarted."""
    body = b'{"id":1,' + kind % (b"[]," * 11_000_000) + b"}"
    with contextlib.suppress(OSError), two.workers[0]._write:
        two.workers[0].ours.sendall(frame(body))
    wait_until(lambda: 0 in two.restarts, 30, what="its end")
    with RawClient(two.path) as client:
        wait_until(lambda: client.call("ping")["workers"]["running"] == 2, what="both workers")
    assert two.process.poll() is None
    assert "a message with 2200000" in two.said()


WORDS_OF_A_PAGE = st.lists(
    st.tuples(
        st.integers(0, 400), st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2, 2**64 - 1])
    ),
    max_size=80,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(WORDS_OF_A_PAGE)
def test_any_page_leaves_other_counters_readable(
    two: FakeSupervisor, words: list[tuple[int, int]]
) -> None:
    """In time and completely; no content of a page ends the daemon."""
    (one,) = two.workers[1].rules
    two.workers[1].counts = {one: 7}
    for place, word in words:
        two.pages[0].words[place] = word
    with RawClient(two.path) as client:
        began_s = time.monotonic()
        stats = client.call("stats")
        assert time.monotonic() - began_s < 2
        assert 1 not in stats["stale_workers"]
        assert stats["rules"][0]["matched"] >= 7
        assert client.call("rules.get", rule="one")["rule"]["id"] == one
    assert two.process.poll() is None
    assert "Traceback" not in two.said()
