"""The log's levels and limits; access to the daemon; the troubles of rules."""

import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fake_supervisor import FakeSupervisor

from mcr.choices import FACILITIES, LEVELS
from mcr.daemon.control.api.access import AccessPolicy, Peer, peer_of
from mcr.daemon.control.log import ControlLog
from mcr.daemon.control.log_limits import (
    LINES_A_SECOND,
    LINES_AT_ONCE,
    RateLimit,
    RepeatLimit,
)
from mcr.protocol.log_spec import LogSpec
from mcr.protocol.results import LogLevels
from mcr.protocol.text import printable
from mcr.repeats import REMEMBERED_MESSAGES


def filtered(limit: logging.Filter, text: str) -> str | None:
    """The message of a record that passes a filter; None if it does not."""
    record = logging.makeLogRecord({"msg": text})
    return record.getMessage() if limit.filter(record) else None


def counted(text: str) -> int:
    """How many messages a text reports as suppressed."""
    return sum(map(int, re.findall(r"(\d+) suppressed\)", text)))


TURNS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 0.6), st.booleans()), max_size=60)


@given(TURNS, st.integers(1, 3))
def test_repeats_are_counted(turns: list[tuple[str, float, bool]], remembered: int) -> None:
    """Each is written or counted: with the next one, when its second is over, or at the end."""
    now_s, written_s, written, suppressed = 0.0, dict[str, float](), 0, 0
    repeats = RepeatLimit(lambda: now_s)
    with patch("mcr.repeats.REMEMBERED_MESSAGES", remembered):
        for text, later_s, looks in turns:
            now_s += later_s
            if looks:
                suppressed += sum(counted(each.getMessage()) for each in repeats.due())
            passed = filtered(repeats, text)
            if passed is not None:
                assert passed.partition(" ")[0] == text
                assert remembered < 3 or now_s - written_s.get(text, -1.0) >= 1
                written_s[text] = now_s
                written += 1
                suppressed += counted(passed)
            assert len(repeats) <= remembered
        suppressed += sum(counted(each.getMessage()) for each in repeats.due(at_once=True))
    assert written + suppressed == len(turns)


def test_repeats_are_reported_when_their_second_is_over() -> None:
    """With facility and level of the message, once for each second of a flood."""
    now_s = 0.0
    repeats = RepeatLimit(lambda: now_s)
    made = {"msg": "same", "name": "mcr.egress", "levelno": logging.ERROR}
    for second in range(3):
        now_s = float(second)
        due = [(each.name, each.levelno, each.getMessage()) for each in repeats.due()]
        text = f"same ({99 if second == 1 else 100} suppressed)"
        assert due == ([("mcr.egress", logging.ERROR, text)] if second else [])
        accepted = [repeats.filter(logging.makeLogRecord(made)) for _ in range(100)]
        assert accepted == [second == 0] + [False] * 99
    now_s = 3.0
    assert len(list(repeats.due())) == 1
    now_s = 4.0
    assert not list(repeats.due())
    assert not len(repeats)


def test_a_key_may_stand_for_the_text() -> None:
    """And another facility or level is another message."""
    repeats = RepeatLimit(lambda: 0.0)
    made = [{"name": "a", "levelno": 1}, {"name": "b", "levelno": 1}, {"name": "a", "levelno": 2}]
    for each in made:
        for text, accepted in (("one", True), ("two", False)):
            record = logging.makeLogRecord({**each, "msg": text, "key": "k"})
            assert repeats.filter(record) == accepted


def test_ever_new_messages_need_no_more_memory() -> None:
    """The oldest are forgotten, what was suppressed of them is not."""
    repeats = RepeatLimit(lambda: 0.0)
    for number in range(3 * REMEMBERED_MESSAGES):
        for _ in range(2):
            filtered(repeats, str(number))
    assert len(repeats) == REMEMBERED_MESSAGES
    texts = [each.getMessage() for each in repeats.due(at_once=True)]
    assert texts[-1] == f"other messages ({2 * REMEMBERED_MESSAGES} suppressed)"
    assert sum(map(counted, texts)) == 3 * REMEMBERED_MESSAGES


def test_the_rate_of_lines_is_limited() -> None:
    """A burst, then a steady rate; the others are counted."""
    now_s = 0.0
    rate = RateLimit(lambda: now_s)
    said = [filtered(rate, f"line {number}") for number in range(LINES_AT_ONCE + 50)]
    assert said[:LINES_AT_ONCE] == [f"line {number}" for number in range(LINES_AT_ONCE)]
    assert set(said[LINES_AT_ONCE:]) == {None}
    assert not list(rate.due())
    now_s = 1.0
    assert filtered(rate, "later") == "later (other messages: 50 suppressed)"
    later = [filtered(rate, "more") for _ in range(50)]
    assert later == ["more"] * (LINES_A_SECOND - 1) + [None] * (51 - LINES_A_SECOND)
    now_s = 2.0
    due = [each.getMessage() for each in rate.due()]
    assert due == [f"other messages ({51 - LINES_A_SECOND} suppressed)"]
    assert not list(rate.due())


@given(st.text(st.characters()))
def test_a_line_stays_one_line(text: str) -> None:
    """Text of clients and workers can neither forge a line nor control a terminal."""
    shown = printable(text)
    assert shown.isprintable()
    assert (shown == text) == text.isprintable()


@pytest.fixture
def log() -> Iterator[ControlLog]:
    """A log that is removed after the test."""
    root = logging.getLogger("mcr")
    before = (root.handlers[:], root.propagate, root.level)
    made = ControlLog(lambda *_: None)
    yield made
    root.handlers[:], root.propagate = before[0], before[1]
    root.setLevel(before[2])
    for facility in FACILITIES:
        logging.getLogger(f"mcr.{facility}").setLevel(logging.NOTSET)


def test_a_facility_has_its_own_or_the_common_level(log: ControlLog) -> None:
    """Null resets it."""
    log.set_levels(log.with_level("warning", None))
    log.set_levels(log.with_level("debug", "rules"))
    assert log.levels == LogLevels("warning", {**dict.fromkeys(FACILITIES), "rules": "debug"})
    assert logging.getLogger("mcr.rules").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("mcr.worker").isEnabledFor(logging.INFO)
    assert log.levels_of("rules", "worker") == {"rules": "debug", "worker": "warning"}
    log.set_levels(log.with_level(None, "rules"))
    assert not logging.getLogger("mcr.rules").isEnabledFor(logging.INFO)


def test_levels_as_text() -> None:
    """One for all and some of their own; each mistake names the word."""
    spec = LogSpec.parse("rules=debug, warn,supervisor=err")
    assert (spec.level, len(spec.facilities)) == ("warning", 2)
    levels = [spec.level_of(each) for each in ("rules", "parser", "supervisor")]
    assert levels == ["debug", "warning", "error"]
    for level in LEVELS:
        assert LogSpec.parse(f"{level},pool={level}") == (level, {"pool": level})
    assert [LogSpec.parse(each).level for each in ("crit", "emerg", "panic")] == [
        "critical",
        "emergency",
        "emergency",
    ]
    assert LogSpec.parse("rules=debug").level == "info"
    for text, word in (("", "''"), ("loud", "'loud'"), ("x=info", "'x'"), ("rules=", "''")):
        with pytest.raises(ValueError, match=f"^{word} is not one of"):
            LogSpec.parse(text)
    for text, meant in (
        ("warnig", "warning"),
        ("notics", "notice"),
        ("workers=info", "worker"),
        ("info,rule=debug", "rules"),
        ("interface=trace", "interfaces"),
    ):
        with pytest.raises(ValueError, match=f"; did you mean '{meant}'\\?$"):
            LogSpec.parse(text)
    for text in ("info,debug", "rules=info,rules=debug"):
        with pytest.raises(ValueError, match="has two levels for"):
            LogSpec.parse(text)


STUCK = """
import logging, sys
from mcr.daemon.control.log import ControlLog
log = ControlLog(lambda *_: None)
log.install()
for number in range(3000):
    log.say(f"{number} " + 100 * "x")
logging.getLogger("mcr.control").error("refused")
print("done", flush=True)
if sys.stdin.readline():
    log.flush_to_stderr(20)
    logging.getLogger("mcr.control").error("the last one")
    log.flush_to_stderr(20)
"""


@pytest.mark.parametrize("read", [False, True])
def test_a_stuck_reader_of_standard_error_delays_nothing(read: bool) -> None:
    """Neither log calls nor the exit; later lines count the dropped ones."""
    pipes = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], stdin=pipes, stdout=pipes, stderr=pipes, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "done\n"
        if not read:
            process.stdin.close()
            assert process.wait(20) == 0
            return
        _, said = process.communicate("go on\n", timeout=20)
    counts = re.findall(r"^warning: control: dropped (\d+) records", said, re.MULTILINE)
    assert counts
    lines = said.splitlines()
    assert len(lines) - len(counts) + sum(map(int, counts)) == 3000 + 2
    assert lines[-1] == "error: control: the last one"


@pytest.mark.parametrize(
    ("peer", "admitted"),
    [
        (Peer(1, 0, frozenset()), True),
        (Peer(1, 1000, frozenset({5})), True),
        (Peer(1, 1001, frozenset({5})), False),
        (Peer(1, 1001, frozenset({5, 77})), True),
    ],
)
def test_permitted_users(peer: Peer, admitted: bool) -> None:
    """Root, the user who started the daemon, and the socket's group."""
    assert AccessPolicy(starter_uid=1000, socket_gid=77).allows(peer) == admitted


def test_peer_credentials() -> None:
    """With the supplementary groups."""
    one, other = socket.socketpair()
    peer = peer_of(one)
    assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())
    assert peer.gids >= {os.getgid(), *os.getgroups()}
    one.close()
    other.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: needs root")
@pytest.mark.parametrize(("groups", "word"), [("[]", "error"), ("[gid]", "result")])
def test_other_users_are_refused(supervisor: FakeSupervisor, groups: str, word: str) -> None:
    """With an error; members of the group are served."""
    path = Path(supervisor.path)
    path.chmod(0o666)
    path.parent.chmod(0o755)
    script = (
        "import os, socket, sys; gid = int(sys.argv[2]);"
        f"os.setgroups({groups}); os.setresgid(65534, 65534, 65534);"
        "os.setresuid(65534, 65534, 65534); s = socket.socket(socket.AF_UNIX);"
        "s.connect(sys.argv[1]);"
        's.sendall(b\'{"jsonrpc":"2.0","id":1,"method":"ping"}\\n\'); print(s.recv(4096).decode())'
    )
    command = [sys.executable, "-I", "-c", script, str(path), str(os.getgid())]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert f'"{word}"' in said
