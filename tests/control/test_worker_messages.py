"""Messages from workers, which may be compromised."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fake_host import HOST

from mcr.daemon.control.events import EventBus
from mcr.daemon.control.rules import rulebook
from mcr.daemon.control.rules.entries import read_entries
from mcr.daemon.control.rules.rulebook import Rulebook
from mcr.daemon.control.workers.messages import read_hello, read_message
from mcr.daemon.control.workers.status import RuleStatusTracker
from mcr.rules.hostnames import HostResolver

RULE = "239.1.1.1%eth0:5001,name=one to 239.2.0.1%eth1:6001 239.2.0.2%eth1:6001"
TEXTS = st.text(max_size=20)
TROUBLES = st.fixed_dictionaries(
    {"state": st.sampled_from(["waiting", "unresolved"]), "reason": TEXTS}
)
NEWS = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["RULE", "other"]),
        "trouble": st.none() | TROUBLES,
        "parked": st.lists(st.none() | TEXTS, max_size=4),
    }
)
EVENTS = st.one_of(
    st.fixed_dictionaries({"event": st.just("rules"), "rules": st.lists(NEWS, max_size=3)}),
    st.fixed_dictionaries(
        {"event": st.just("link"), "change": st.sampled_from(["up", "mtu", "x"])},
        optional={"name": TEXTS, "index": st.integers(), "detail": TEXTS},
    ),
    st.fixed_dictionaries(
        {"event": st.just("log")},
        optional={"level": st.sampled_from(["info", "error"]), "text": TEXTS},
    ),
    st.fixed_dictionaries({"event": st.just("engine"), "error": TEXTS}),
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def book_of(text: str) -> Rulebook:
    """A rulebook with one rule on the fake host."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rulebook, "interfaces", lambda: HOST)
        book = Rulebook("packet")
        book.commit(book.add(read_entries([text], enabled=True), HostResolver()))
    return book


@given(st.binary(max_size=100) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_message_or_refused(body: bytes) -> None:
    """By one kind of error, which closes the channel."""
    with contextlib.suppress(ValueError):
        assert isinstance(read_message(body), dict)


@given(st.dictionaries(st.sampled_from(["protocol", "number", "rules"]), JSON_VALUES))
def test_a_hello_is_complete_or_refused(ok: dict[str, Any]) -> None:
    """Missing members are an error."""
    with pytest.raises(ValueError, match=r"WorkerHello"):
        read_hello(ok)


@given(st.lists(st.tuples(st.integers(0, 2), EVENTS), max_size=12))
def test_troubles_are_published_once_and_alternate(told: list[tuple[int, dict[str, Any]]]) -> None:
    """Waiting and resumed, parked and unparked, however many workers report them."""
    book, bus = book_of(RULE), EventBus()
    (rule_id,) = book.rules
    lines: list[dict[str, Any]] = []
    subscription = bus.subscribe(
        ["rule"], None, lambda line: lines.append(json.loads(line)["params"]), lambda: 0
    )
    subscription.pump()
    news = RuleStatusTracker(bus)
    for number, event in told:
        body = json.dumps(event).replace('"RULE"', f'"{rule_id}"').encode()
        news.update(number, read_message(body), book.rules)
    for turns in (("waiting", "resumed"), ("parked", "unparked")):
        for output in (None, 1, 2):
            events = [
                line["event"]
                for line in lines
                if line["event"] in turns and line.get("output") == output
            ]
            assert events == [turns[at % 2] for at in range(len(events))]
    waits = [line["event"] for line in lines if line["event"] in {"waiting", "resumed"}]
    assert (news.get(rule_id)[0] is not None) == (waits[-1:] == ["waiting"])
