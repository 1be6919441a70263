"""What a relay in this process logs: changes of its rules, troubles and losses."""

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.support.deadline import wait_until

import mcr
from mcr.log_levels import level_of
from mcr.relay.log import RULES_AT_ONCE

ONE = "239.1.98.1%lo:5001,name=one to 127.0.0.1:9"
MISSING = "239.1.98.2%no-such0:5001,name=two to 127.0.0.1:9"


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """The records of the package."""
    package, found = logging.getLogger("mcr"), list[logging.LogRecord]()
    handler = logging.Handler()
    handler.emit = found.append  # type: ignore[method-assign,assignment]
    before = package.level
    package.setLevel(logging.INFO)
    package.addHandler(handler)
    yield found
    package.removeHandler(handler)
    package.setLevel(before)


def said(records: list[logging.LogRecord]) -> list[tuple[str, str, str]]:
    """The facility, level and text of each."""
    return [(each.name.removeprefix("mcr."), level_of(each), each.getMessage()) for each in records]


def test_changes_of_rules(records: list[logging.LogRecord]) -> None:
    """At the start too, with the id of the rule; many rules are one record."""
    with mcr.Relay(ONE, ingress="udp") as relay:
        assert said(records) == [("rules", "info", "rule one was added")]
        assert getattr(records[0], "rule", None) == relay.rules[0].id
        relay.disable_rule("one")
        relay.enable_rule("one")
        relay.edit_rule("one", add_outputs=["127.0.0.1:10"])
        relay.remove_rule("one")
        relay.replace_rules(
            [f"239.1.98.{each + 1}%lo:5001 to 127.0.0.1:9" for each in range(RULES_AT_ONCE + 1)]
        )
    assert said(records)[1:] == [
        ("rules", "info", "rule one was disabled"),
        ("rules", "info", "rule one was enabled"),
        ("rules", "info", "rule one was edited"),
        ("rules", "info", "rule one was removed"),
        ("rules", "info", f"{RULES_AT_ONCE + 1} rules were added"),
    ]


def test_repeats_are_counted(records: list[logging.LogRecord]) -> None:
    """The same record is logged once a second; a line with a count may be the next one itself."""
    with mcr.Relay(ONE, ingress="udp") as relay:
        for _ in range(30):
            relay.disable_rule("one")
            relay.enable_rule("one")
        wait_until(lambda: any("suppressed" in text for *_, text in said(records)))
    texts = [text for *_, text in said(records) if text.startswith("rule one was disabled")]
    suppressed = sum(int(text.partition("(")[2].split()[0]) for text in texts if "(" in text)
    assert suppressed
    assert suppressed + texts.count("rule one was disabled") <= 30 <= suppressed + len(texts)
    assert {getattr(each, "rule_name", None) for each in records} == {"one"}


def test_warnings(records: list[logging.LogRecord]) -> None:
    """Each once."""
    with mcr.Relay(MISSING, ingress="udp") as relay:
        (warning,) = relay.warnings
        relay.disable_rule("two")
        wait_until(lambda: len(records) == 3, what="the records")
    assert said(records)[1] == ("interfaces", "warning", warning)


def test_without_a_handler_there_is_no_thread_and_no_output() -> None:
    """Nothing is printed past `logging`, and nobody samples for nobody."""
    code = (
        "import mcr, threading\n"
        f"with mcr.Relay({MISSING!r}, ingress='udp') as relay:\n"
        "    relay.disable_rule('two')\n"
        "    print(any(each.name == 'mcr-events' for each in threading.enumerate()))\n"
        "    import logging; logging.basicConfig(level='INFO')\n"
        "    relay.enable_rule('two')\n"
        "    print(any(each.name == 'mcr-events' for each in threading.enumerate()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["False", "True"]
    first, *_ = done.stderr.splitlines()
    assert first.startswith("INFO:mcr.rules:rule two was ")
