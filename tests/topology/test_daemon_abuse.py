"""Misbehaving clients of a running daemon: others are answered, and nothing is lost."""

import contextlib
import json
import pwd
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.deadline import wait_until
from tests.support.pinger import undelayed
from tests.support.raw_client import RawClient

from mcr.daemon.control.api.method_types import METHOD_TYPES
from mcr.daemon.control.log_limits import LINES_A_SECOND, LINES_AT_ONCE
from mcr.protocol.constants import LINE_BYTES, ErrorCode

from .checks import settle_sent
from .daemons import Daemon, serving
from .lab import Lab
from .traffic import PacedFlow, Receiver

pytestmark = pytest.mark.alone

USER = next(user for user in pwd.getpwall() if user.pw_uid not in {0, 65534})
RULE = "239.1.93.1%in0:5001,name=flow to 239.2.93.1%out0:6001"
RATE_PPS = 2000
MEMORY_BYTES = 512 << 20
"""What control may hold at most while it is attacked: mostly lines, and answers nobody reads."""
LINE_BYTES_OF_LOG = 100
"""What a line about a change may have."""


@dataclass
class Attacked:
    """A daemon that relays a flow during all attacks."""

    daemon: Daemon
    flow: PacedFlow
    receiver: Receiver
    worst_s: float = 0.0

    @property
    def written(self) -> list[str]:
        """Log lines that clients can cause: those that are not about links or workers."""
        lines = self.daemon.read_log().splitlines()
        return [line for line in lines if re.match(r"\w+: (interfaces|workers): ", line) is None]

    @property
    def path(self) -> Path:
        """The socket."""
        return self.daemon.socket

    def raw_client(self, within_s: float = 30.0) -> RawClient:
        """A client that can send any bytes."""
        ends_s = time.monotonic() + within_s
        while True:
            with contextlib.suppress(BlockingIOError):  # too many wait to be accepted
                return RawClient(self.path, within_s)
            assert time.monotonic() < ends_s
            time.sleep(0.001)

    def during(self, work: Callable[[], object], *, changes: bool = False) -> None:
        """Attack while other clients' pings are answered, the flow continues and no log grows."""
        before, written = len(self.flow.sent), self.written
        worst_s = undelayed(self.path, work)
        self.worst_s = max(self.worst_s, worst_s)
        assert len(self.flow.sent) > before
        assert changes or self.written == written
        self.receiver.drain()

    def memory(self, pid: int) -> tuple[int, int]:
        """The memory of control, now and at most, in bytes."""
        text = Path(f"/proc/{pid}/status").read_text()
        now, most = (re.findall(rf"{name}:\s+(\d+) kB", text)[0] for name in ("VmRSS", "VmHWM"))
        return int(now) << 10, int(most) << 10


@pytest.fixture(scope="module")
def attacked(lab: Lab) -> Iterator[Attacked]:
    """One daemon and one flow for all attacks; at the end nothing was lost, leaked or logged."""
    with (
        serving(lab.relay, "--user", USER.pw_name) as daemon,
        daemon.client() as client,
        lab.receive("239.2.93.1", 6001) as receiver,
        lab.sender("239.1.93.1", 5001) as sender,
    ):
        client.add_rule(RULE)
        pids = daemon.processes
        began_s = time.monotonic()
        with PacedFlow(sender, RATE_PPS) as flow:
            attacked = Attacked(daemon, flow, receiver)
            before, _most = attacked.memory(pids[1])
            yield attacked
        receiver.expect(flow.sent)
        settle_sent(client, len(flow.sent))
        assert daemon.processes == pids
        now, most = attacked.memory(pids[1])
        lines = LINES_AT_ONCE + LINES_A_SECOND * (time.monotonic() - began_s)
        print(
            f"\n{len(flow.sent)} datagrams, none lost;"
            f" slowest ping {attacked.worst_s * 1000:.0f} ms;"
            f" control {before >> 20} MiB before, {now >> 20} after, {most >> 20} at most;"
            f" {len(daemon.log)} bytes of log"
        )
        assert most < MEMORY_BYTES
        assert len(daemon.log) < lines * LINE_BYTES_OF_LOG


def answers(client: RawClient) -> Iterator[dict[str, object]]:
    """All answers until the end, with batches split."""
    with contextlib.suppress(EOFError, ConnectionResetError):
        while True:
            line = client.line()
            yield from line if isinstance(line, list) else [line]


def test_an_endless_line(attacked: Attacked) -> None:
    """The connection is closed at the limit, with an error."""

    def work() -> None:
        with attacked.raw_client() as client:
            block = b"x" * (1 << 20)
            with contextlib.suppress(OSError):
                for _ in range(LINE_BYTES // len(block) + 2):
                    client.send(block)
            assert client.line()["error"]["code"] == ErrorCode.LIMIT
            assert client.is_closed()

    attacked.during(work)


def test_half_a_message_that_never_ends(attacked: Attacked) -> None:
    """It affects no other client, and is answered once it is complete."""
    with attacked.raw_client() as client:
        client.send(b'{"jsonrpc":"2.0","id":1,')
        attacked.during(lambda: time.sleep(1))
        client.send(b'"method":"ping"}\n')
        assert "result" in client.line()


def test_letter_by_letter(attacked: Attacked) -> None:
    """From a hundred clients that are slow on purpose."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(attacked.raw_client()) for _ in range(100)]

        def work() -> None:
            for letter in b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n':
                for client in clients:
                    client.send(bytes([letter]))
                time.sleep(0.02)
            for client in clients:
                assert "result" in client.line()

        attacked.during(work)


def test_a_thousand_connections(attacked: Attacked) -> None:
    """Half of them with half a message: the longest idle are closed, the last is served."""
    clients: list[RawClient] = []

    def work() -> None:
        for number in range(1000):
            clients.append(attacked.raw_client())
            if number % 2:
                clients[-1].send(b'{"half":')
        assert clients[-2].call("ping")

    try:
        attacked.during(work)
        began_s = time.perf_counter()
        with attacked.daemon.client() as client:  # a newcomer, while they are all there
            client.ping()
        assert time.perf_counter() - began_s < 1
    finally:
        for idle in clients:
            idle.socket.close()


def test_ten_thousand_connections_opened_and_closed(attacked: Attacked) -> None:
    """One by one, as fast as they are accepted."""

    def work() -> None:
        for _ in range(10_000):
            attacked.raw_client().socket.close()

    attacked.during(work)


def request(method: str, params: str = "{}", request_id: str = "1") -> bytes:
    """A request with any part invalid."""
    head = f'{{"jsonrpc":"2.0","id":{request_id},"method":"{method}"'
    return f'{head},"params":{params}}}'.encode()


NONSENSE = {
    "no JSON": b"{]",
    "no UTF-8": request("ping").replace(b"ping", b"\xff\xfe"),
    "half a character": request("\\ud800"),
    "half a character as a name": request("rules.get", '{"rule":"\\udfff"}'),
    "half a character in a rule": request("rules.add", '{"rules":["\\ud8ff to \\udc00"]}'),
    "a number beyond all": request("events.subscribe", '{"after":1e400}'),
    "a number of 64 bits": request("events.subscribe", '{"after":18446744073709551616}'),
    "a number of 4000 digits": request("ping", request_id="9" * 4000),
    "a number of 10000 digits": request("ping", request_id="9" * 10_000),
    "not a number": request("ping", request_id="NaN"),
    "deep": request("ping", "[" * 100_000 + "]" * 100_000),
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a batch of nothing": b"[]",
    "a huge batch": b"[" + (request("ping") + b",") * 100_000 + b"1]",
    "a long method": request("x" * 1_000_000),
    "control characters": request("\\u001b[2J\\nerror: forged"),
    "another protocol": b"GET / HTTP/1.1\r",
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_answered_with_an_error(attacked: Attacked, kind: str) -> None:
    """Of JSON-RPC; the connection stays open."""

    def work() -> None:
        with attacked.raw_client() as client:
            for _ in range(20):
                client.send(NONSENSE[kind] + b"\n")
                line = client.line()
                if "digits" not in kind or "result" not in line:
                    assert line["error"]["code"] in set(ErrorCode), line
                    assert len(json.dumps(line)) < 10_000
            assert client.call("ping")

    attacked.during(work)


WRONG = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(["rules", "rule", "kinds", "after", "level", "facility", "dry_run"])
REQUESTS = st.fixed_dictionaries(
    {
        "jsonrpc": st.just("2.0"),
        "method": st.sampled_from(sorted(METHOD_TYPES.keys() - {"shutdown"})),
        "id": st.integers() | WRONG,
    },
    # Nothing that changes the flow's own rule by accident: its id and name are no generated text.
    optional={"params": st.dictionaries(NAMES, WRONG, max_size=3) | WRONG},
)
LINES = st.one_of(
    st.binary(max_size=200),
    WRONG.map(lambda value: json.dumps(value).encode()),
    REQUESTS.map(lambda value: json.dumps(value).encode()),
    st.lists(REQUESTS, max_size=4).map(lambda value: json.dumps(value).encode()),
)


def changes_nothing(line: bytes) -> bool:
    """Whether a line changes neither rules nor log levels; an empty set of rules is valid."""
    return b"rules.replace" not in line and b"logs.set" not in line


def test_any_lines(attacked: Attacked) -> None:
    """Random lines of all shapes: each answer is one of JSON-RPC."""

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(LINES.filter(changes_nothing), max_size=5), st.booleans())
    def say(lines: list[bytes], half: bool) -> None:
        with attacked.raw_client() as client:
            with contextlib.suppress(OSError):
                client.send(b"\n".join(lines) + (b"" if half else b"\n"))
                client.socket.shutdown(socket.SHUT_WR)
            for answer in answers(client):
                assert answer["jsonrpc"] == "2.0"

    attacked.during(say)


def test_a_hundred_thousand_pings_at_once(attacked: Attacked) -> None:
    """All are answered in order, with other clients in between."""
    count = 100_000
    lines = b"".join(b'{"jsonrpc":"2.0","id":%d,"method":"ping"}\n' % n for n in range(count))

    def work() -> None:
        with attacked.raw_client() as client:
            sender = threading.Thread(target=client.send, args=(lines,))
            sender.start()
            reader = client.socket.makefile("rb")
            for number in range(count):
                assert b'"id":%d,' % number in reader.readline()
            sender.join()

    attacked.during(work)


def test_unread_answers(attacked: Attacked) -> None:
    """Eight clients request much and read nothing: they are disconnected at the limit."""
    request = b'{"jsonrpc":"2.0","id":1,"method":"logs.get"}\n'

    def work() -> None:
        clients = [attacked.raw_client() for _ in range(8)]
        for client in clients:
            client.socket.setblocking(False)
        ends_s = time.monotonic() + 3
        while time.monotonic() < ends_s:
            for client in clients:
                with contextlib.suppress(OSError):
                    client.socket.send(request * 1000)
            time.sleep(0.001)
        for client in clients:
            client.socket.close()

    attacked.during(work)


def test_a_subscriber_that_never_reads(attacked: Attacked) -> None:
    """The queue of events is bounded; when it reads, it gets a gap."""
    rule = "239.1.93.9%in0:5009,name=blink to 239.2.93.9%out0:6009"
    with attacked.raw_client() as deaf, attacked.raw_client() as client:
        deaf.call("events.subscribe")
        batch = [
            {"jsonrpc": "2.0", "method": method, "id": 1, "params": params}
            for method, params in (
                ("rules.add", {"rules": [rule]}),
                ("rules.remove", {"rules": ["blink"]}),
            )
        ]
        line = json.dumps(batch * 50).encode() + b"\n"

        def work() -> None:
            for _ in range(10):
                client.send(line)
                assert all("result" in each for each in client.line())

        attacked.during(work, changes=True)
        numbers = [deaf.line()["params"]["sequence"] for _ in range(100)]
        assert numbers == list(range(numbers[0], numbers[0] + 100))


@pytest.mark.timeout(120)
def test_statistics_of_many_rules_over_and_over(attacked: Attacked) -> None:
    """One client requests them all the time, another never reads its answers."""
    rules = [
        f"239.{100 + n // 250}.{n % 250}.1%in0:5001,name=r{n} to 239.2.93.2%out0:7001"
        for n in range(4000)
    ]
    with attacked.raw_client(60) as client, attacked.raw_client(60) as deaf:
        client.call("rules.add", rules=rules)
        deaf.send(b'{"jsonrpc":"2.0","id":1,"method":"stats"}\n' * 20)

        def work() -> None:
            for _ in range(5):
                assert len(client.call("stats")["rules"]) == 4001

        attacked.during(work, changes=True)
        client.call("rules.remove", rules=[f"r{n}" for n in range(4000)])


def test_changes_in_a_loop_fill_no_log(attacked: Attacked) -> None:
    """Of three thousand changes a bounded number is logged, with the count of the others."""
    turns = [
        {"jsonrpc": "2.0", "method": f"rules.{turn}", "id": 1, "params": {"rules": ["loop"]}}
        for turn in ("disable", "enable")
    ]
    line = json.dumps(turns * 50).encode() + b"\n"
    with attacked.raw_client() as client:
        client.call("rules.add", rules=["239.1.93.8%in0:5008,name=loop to 239.2.93.8%out0:6008"])

        def work() -> None:
            for _ in range(30):
                client.send(line)
                assert all("result" in each for each in client.line())

        attacked.during(work, changes=True)
        time.sleep(2 / LINES_A_SECOND)
        client.call("rules.remove", rules=["loop"])
    wait_until(lambda: "suppressed)" in attacked.daemon.read_log())
