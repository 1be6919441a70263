"""Entries with fields for systemd's journal, as a socket in its place receives them."""

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcr.choices import LEVELS
from mcr.daemon.control.log import ControlLog
from mcr.daemon.journal import Journal
from mcr.daemon.supervisor.log import StderrLog
from mcr.log_levels import NUMBERS, logger_of
from mcr.protocol.log_spec import LogSpec


def read_entry(receiver: socket.socket) -> dict[str, str]:
    """The fields of the next datagram, parsed as the protocol says."""
    content = receiver.recv(1 << 20)
    fields = {}
    while content:
        line, _, content = content.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(content[:8], "little")
            value, content = content[8 : 8 + length], content[8 + length :]
            assert content[:1] == b"\n"
            content = content[1:]
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket in place of the journal's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "socket"))
        made.settimeout(20)
        yield made


@pytest.fixture
def journal(receiver: socket.socket) -> Iterator[Journal]:
    """A connection to it."""
    with open(os.devnull, "wb") as target:
        status = os.fstat(target.fileno())
        environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        path = Path(receiver.getsockname())
        for other in ({}, {"JOURNAL_STREAM": "1:2"}):
            assert Journal.connect("journal", target.fileno(), other, path) is None
        assert Journal.connect("json", target.fileno(), environment, path) is None
        absent = path.with_name("absent")
        assert Journal.connect("auto", target.fileno(), environment, absent) is None
        made = Journal.connect("auto", target.fileno(), environment, path)
    assert made is not None
    yield made
    made.close()


def test_an_entry(journal: Journal, receiver: socket.socket) -> None:
    """Each level has its priority; a text of several lines stays one field."""
    for level in LEVELS:
        assert journal.send(level, "egress", "one\ntwo \u00e4=\udcff", {"MCR_RULE": None, "X": 1})
        entry = read_entry(receiver)
        assert entry.pop("PRIORITY") == str(min(7, 8 - LEVELS.index(level)))
        assert entry == {
            "MESSAGE": "egress: one\ntwo \u00e4=\\udcff",
            "SYSLOG_FACILITY": "3",
            "SYSLOG_IDENTIFIER": "mcr",
            "MCR_LEVEL": level,
            "MCR_FACILITY": "egress",
            "X": "1",
        }


def test_a_journal_that_takes_nothing(journal: Journal, receiver: socket.socket) -> None:
    """Lines go to standard error then, with priorities; nothing blocks."""
    assert not journal.send("info", "rules", "x" * (1 << 24))
    sent = 0
    while journal.send("info", "rules", "x"):
        sent += 1
    assert sent
    receiver.close()
    assert not journal.send("info", "rules", "x")
    read, write = os.pipe()
    log = StderrLog(LogSpec.parse("info"), write, {}, "journal", journal)
    log.log("notice", "to standard error")
    assert os.read(read, 100) == b"<5>supervisor: to standard error\n"
    os.close(read)
    os.close(write)


def test_the_supervisor(journal: Journal, receiver: socket.socket) -> None:
    """A record, and a line that is none."""
    log = StderrLog(LogSpec.parse("info"), 2, {}, "auto", journal)
    log.log("alert", "bad\x1b")
    entry = read_entry(receiver)
    assert (entry["MESSAGE"], entry["PRIORITY"]) == ("supervisor: bad\\x1b", "1")
    log.write("ready")
    entry = read_entry(receiver)
    assert entry["MESSAGE"] == "ready"
    assert "MCR_FACILITY" not in entry


def test_control(journal: Journal, receiver: socket.socket) -> None:
    """With the place in the code, the rule, the worker, and a traceback in the message."""
    package = logging.getLogger("mcr")
    before = package.handlers[:], package.propagate, package.level
    try:
        log = ControlLog(lambda *_: None, "info", "journal", journal)
        log.install()
        extra = {"rule": "28ba963d3ed5", "rule_name": "feed-a", "worker": 3}
        logger_of("egress").log(NUMBERS["critical"], "lost %d", 7, extra=extra)
        entry = read_entry(receiver)
        assert (entry["MESSAGE"], entry["PRIORITY"]) == ("egress: lost 7", "2")
        assert (entry["MCR_RULE"], entry["MCR_WORKER"]) == ("28ba963d3ed5", "3")
        assert entry["MCR_RULE_NAME"] == "feed-a"
        assert (entry["CODE_FILE"], entry["CODE_FUNC"]) == (__file__, "test_control")
        assert entry["CODE_LINE"].isdecimal()
        try:
            raise ValueError("no")
        except ValueError:
            logger_of("control").exception("failed")
        entry = read_entry(receiver)
        assert entry["MESSAGE"].startswith("control: failed\nTraceback")
        assert entry["MESSAGE"].endswith("\nValueError: no")
        assert "MCR_RULE" not in entry
        log.say("two\nlines")
        assert read_entry(receiver)["MESSAGE"] == "two\nlines"
    finally:
        package.handlers[:], package.propagate = before[0], before[1]
        package.setLevel(before[2])
