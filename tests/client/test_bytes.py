"""For any bytes from a daemon, a client returns a value or raises an `McrError` in time."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mcr
from mcr.client import methods
from mcr.client.event_cursor import EventCursor
from mcr.client.jsonrpc import Malformed, read_line
from mcr.client.session import Connect, Pause, Receive, Send, Session, Step, Steps
from mcr.protocol.results import Hello

HELLO = {
    "protocol": 1, "server": "mcr 0.1.0", "pid": 7, "revision": 3, "ingress": "udp", "workers": 1,
    "sequence": 9,
}  # fmt: skip
ALL = [
    methods.hello(), methods.ping(), methods.rules(), methods.rule("x"), methods.add_rule("x"),
    methods.stats(), methods.workers(), methods.interfaces(), methods.log_levels(),
    methods.resolve_hosts(), methods.shutdown(), methods.subscribe(None, None),
]  # fmt: skip
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())  # halves of pairs too
    | st.sampled_from(["id", "2.0", "error", "gap", "keep"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*HELLO, "code", "message", "data", "problems"]), inner)
    ),
    max_leaves=12,
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0"),
        "id": st.integers(0, 3) | JSON,
        "result": st.just(HELLO) | JSON,
        "error": st.fixed_dictionaries(
            {"code": st.integers(-32800, -31990), "message": st.text()}, optional={"data": JSON}
        )
        | JSON,
        "method": st.just("event") | JSON,
        "params": JSON,
    },
)
CHUNKS = st.lists(
    st.binary(max_size=80)
    | MESSAGES.map(lambda message: json.dumps(message).encode() + b"\n")
    | st.just(json.dumps({"jsonrpc": "2.0", "id": 1, "result": HELLO}).encode() + b"\n"),
    max_size=8,
)


class FakeWire:
    """Executes steps by a clock that advances only during waits."""

    def __init__(self, chunks: Sequence[bytes], *, ends: bool) -> None:
        self.now_s = 0.0
        self.sent: list[bytes] = []
        self._chunks = list(chunks)
        self._ends = ends

    def run(self, steps: Steps[Any]) -> Any:  # noqa: ANN401 -- what the call reads
        """Execute all steps; fail if they do not end."""
        received: bytes | None = None
        problem: OSError | None = None
        for _ in range(100_000):
            try:
                step = steps.send(received) if problem is None else steps.throw(problem)
            except StopIteration as end:
                return end.value
            received, problem = None, None
            try:
                received = self._execute(step)
            except OSError as error:
                problem = error
        raise AssertionError("it goes on for ever")

    def _execute(self, step: Step) -> bytes | None:
        self.now_s += 1e-4
        if isinstance(step, Receive):
            return self._receive(step)
        if isinstance(step, Pause):
            self.now_s += step.seconds
        elif isinstance(step, Send):
            self.sent.append(step.data)
        else:
            assert isinstance(step, Connect)
        return None

    def _receive(self, step: Receive) -> bytes:
        if self._chunks:
            return self._chunks.pop(0)
        if self._ends:
            return b""
        assert step.timeout_s is not None, "it would wait for ever"
        self.now_s += step.timeout_s
        raise TimeoutError


@given(st.sampled_from(ALL), CHUNKS, st.booleans())
def test_any_answer_ends_a_call(call: methods.Call[Any], chunks: list[bytes], ends: bool) -> None:
    """Within the client's time limit, with a value or an `McrError`."""
    wire = FakeWire(chunks, ends=ends)
    session = Session(Path("x"), 2.0, lambda: wire.now_s)
    for _ in range(3):
        began_s, said = wire.now_s, ""
        try:
            wire.run(session.request(call))
        except mcr.McrError as error:
            said = str(error)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", said)
        assert wire.now_s - began_s < 2.2


@given(CHUNKS, st.booleans(), st.none() | st.integers(0, 9))
def test_any_answer_ends_a_stream(chunks: list[bytes], ends: bool, after: int | None) -> None:
    """`read` takes no longer than its own time limit and the client's together."""
    wire = FakeWire(chunks, ends=ends)
    following = EventCursor(Session(Path("x"), 2.0, lambda: wire.now_s), None, after)
    for _ in range(5):
        began_s = wire.now_s
        try:
            event = wire.run(following.next(1.0))
        except mcr.McrError:
            event = None
        assert event is None or isinstance(event, mcr.Event)
        assert wire.now_s - began_s < 8


def test_other_messages_do_not_extend_the_time_limit() -> None:
    """Messages other than events do not prolong the wait for one."""
    greeting = json.dumps({"jsonrpc": "2.0", "id": 1, "result": HELLO}).encode() + b"\n"
    result = {"sequence": 9, "oldest": 1, "missed": 0}
    subscribed = json.dumps({"jsonrpc": "2.0", "id": 2, "result": result}).encode() + b"\n"
    other = b'{"jsonrpc":"2.0","method":"news"}\n'
    wire = FakeWire([greeting, subscribed, *[other] * 50_000], ends=False)
    following = EventCursor(Session(Path("x"), 2.0, lambda: wire.now_s), None, None)
    assert wire.run(following.next(1.0)) is None
    assert wire.now_s < 1.1


def test_an_endless_line() -> None:
    """The client does not store a line beyond the limit."""
    wire = FakeWire([b"x" * 65536] * 257, ends=False)
    session = Session(Path("x"), 2.0, lambda: wire.now_s)
    with pytest.raises(mcr.DaemonError, match="sent a line of more than 16777216 bytes"):
        wire.run(session.request(methods.ping()))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b'{"jsonrpc":"2.0","id":1,"result":' + b"9" * 5000 + b"}",
        b'{"jsonrpc":"2.0","id":1,"result":NaN}',
        b'{"jsonrpc":"2.0","id":1,"result":1e999}',
        b'{"jsonrpc":"2.0","id":true,"result":1}',
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0"}',
        b'{"jsonrpc":"1.0","id":1,"result":1}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":"x","message":"y"}}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":-32002,"message":"y"}}',
        "{}".encode("utf-16"),
        b"[]",
    ],
)
def test_malformed_lines(line: bytes) -> None:
    """Each is refused with the reason."""
    with pytest.raises(Malformed, match=r"^a "):
        read_line(line, Hello)
