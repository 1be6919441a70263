"""The formats of the daemon's log."""

import json
import logging
import os
import pty
from collections.abc import Iterator
from datetime import datetime

import pytest

from mcr.choices import LEVELS, LogFormat
from mcr.daemon.log_format import choose_format
from mcr.daemon.supervisor.log import StderrLog
from mcr.log_levels import NUMBERS, level_of
from mcr.protocol.log_spec import LogSpec
from mcr.repeats import RepeatCounter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe as standard error."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def lines_of(pipe: tuple[int, int], name: LogFormat, text: str) -> list[str]:
    """What the supervisor writes as a record and as a line that is no record."""
    log = StderrLog(LogSpec.parse("info"), pipe[1], {}, name)
    log.log("warning", text)
    log.write(text)
    return os.read(pipe[0], 9000).decode().splitlines()


@pytest.mark.parametrize("text", ["bad \u00e4", "\x1b\n" + '"\U0001f600' * 3000])
def test_json(pipe: tuple[int, int], text: str) -> None:
    """Each line is one object that fits into a pipe in one piece, whatever the text is."""
    record, other = map(json.loads, lines_of(pipe, "json", text))
    assert record.pop("message") == other["message"]
    assert other["message"].startswith(text[:5].replace("\x1b\n", "\\x1b "))
    assert datetime.fromisoformat(record.pop("time")).tzinfo is not None
    assert record == {"level": "warning", "facility": "supervisor", "pid": os.getpid()}
    assert "facility" not in other


def test_json_has_what_a_record_is_about() -> None:
    """The rule and the worker, where they are known; a line still fits into a pipe."""
    with open(os.devnull) as target:
        write = choose_format("json", target.fileno(), {})
    fields = {"rule": "28ba963d3ed5", "rule_name": "\U0001f600" * 64, "worker": 255, "key": "x"}
    line = write(1.5, "warning", "interfaces", "\U0001f600" * 9000, fields)
    assert len(line.encode()) < 4096
    record = json.loads(line)
    assert {name: record[name] for name in ("rule", "rule_name", "worker")} == {
        name: fields[name] for name in ("rule", "rule_name", "worker")
    }
    assert "key" not in record
    without = json.loads(write(1.5, "info", "rules", "x", {"rule": None}))
    assert without.keys() == {"time", "level", "pid", "facility", "message"}


def test_the_supervisor_writes_repeats_once_a_second(pipe: tuple[int, int]) -> None:
    """The others are counted, at the latest when it ends; other levels are other records."""
    now_s = 0.0
    log = StderrLog(LogSpec.parse("info"), pipe[1], {}, "auto")
    log._repeats = RepeatCounter(lambda: now_s)
    for _ in range(100):
        log.log("warning", "bad")
    log.log("error", "bad")
    log.report_suppressed()
    assert os.read(pipe[0], 9000).decode() == ("warning: supervisor: bad\nerror: supervisor: bad\n")
    now_s = 1.0
    log.report_suppressed()
    log.log("warning", "bad")
    assert os.read(pipe[0], 9000).decode() == "warning: supervisor: bad (99 suppressed)\n"
    log.report_suppressed(at_once=True)
    assert os.read(pipe[0], 9000).decode() == "warning: supervisor: bad (1 suppressed)\n"
    log.report_suppressed(at_once=True)
    log.write("end")
    assert os.read(pipe[0], 9000).decode() == "end\n"


def test_a_line_for_a_user_at_a_terminal(pipe: tuple[int, int]) -> None:
    """Nowhere else."""
    reader, writer = pty.openpty()
    for target in (pipe[1], writer):
        log = StderrLog(LogSpec.parse("error"), target, {})
        log.write_to_terminal("taking over")
        log.write("end")
    assert os.read(pipe[0], 9000) == b"end\n"
    assert os.read(reader, 9000).split() == [b"taking", b"over", b"end"]
    os.close(reader)
    os.close(writer)


def test_text_has_the_time(pipe: tuple[int, int]) -> None:
    """With milliseconds, before each line."""
    record, other = lines_of(pipe, "text", "bad\nthing")
    for line, wanted in ((record, "warning: supervisor: bad thing"), (other, "bad thing")):
        time, _, rest = line.partition(" ")
        assert rest == wanted
        assert datetime.fromisoformat(time).tzinfo is not None
        assert len(time.partition(".")[2]) == len("123+00:00")


def test_priorities_on_request(pipe: tuple[int, int]) -> None:
    """Also where standard error does not lead to the journal."""
    assert lines_of(pipe, "journal", "bad") == ["<4>supervisor: bad", "<6>bad"]


def test_each_level_has_its_priority(pipe: tuple[int, int]) -> None:
    """That of syslog(3), from 0 (emergency) to 7; trace is 7 as well."""
    log = StderrLog(LogSpec.parse("trace"), pipe[1], {}, "journal")
    for level in LEVELS:
        log.log(level, level)
    lines = os.read(pipe[0], 9000).decode().splitlines()
    priorities = [7, 7, 6, 5, 4, 3, 2, 1, 0]
    assert lines == [
        f"<{priority}>supervisor: {level}"
        for level, priority in zip(LEVELS, priorities, strict=True)
    ]


def test_each_level_is_above_the_one_before() -> None:
    """As numbers of `logging`, which have names there."""
    numbers = [NUMBERS[level] for level in LEVELS]
    assert numbers == sorted(set(numbers))
    for level, number in NUMBERS.items():
        assert logging.getLevelName(number) == level.upper()
        assert level_of(logging.makeLogRecord({"levelno": number})) == level
        assert level_of(logging.makeLogRecord({"levelno": number + 1})) == level
    assert level_of(logging.makeLogRecord({"levelno": 1})) == "trace"


def test_the_supervisor_follows_the_level_of_each_facility(pipe: tuple[int, int]) -> None:
    """It logs for two."""
    log = StderrLog(LogSpec.parse("error,security=notice"), pipe[1], {}, "auto")
    log.log("warning", "less")
    log.log("info", "less", "security")
    log.log("notice", "more", "security")
    assert os.read(pipe[0], 9000).decode() == "notice: security: more\n"
