"""Samples and queues of messages, without a daemon."""

import asyncio
import json
from dataclasses import replace

from mcr.alarms.event import Event
from mcr.protocol.results import DaemonStats, Totals
from mcr.stats import OutputStats, RuleStats
from mcr.web import limits
from mcr.web.feed import EventFeed, StreamQueue
from mcr.web.history import History

OUTPUT = OutputStats("127.0.0.1:7001", "127.0.0.1", 0, 0, 0, 0, 0, {"output_full": 0}, {})
RULE = RuleStats("0123456789ab", None, "text", "joined", 0, 0, (OUTPUT,))
EMPTY = DaemonStats(
    interfaces=(),
    rules=(),
    revision=1,
    totals=Totals(0, 0, {}, 0, 0, 0, 0),
    stale_workers=(),
)


def reading(at: float, *matched: int, lost: int = 0) -> DaemonStats:
    """Statistics of a rule for each number, with datagrams of 10 bytes; the first one loses."""
    rules = []
    for number, count in enumerate(matched):
        drops = 0 if number else lost
        output = replace(OUTPUT, wanted=count, sent=count - drops, dropped={"output_full": drops})
        rule_id = f"{number:012}"
        rules.append(
            replace(RULE, id=rule_id, matched=count, matched_bytes=10 * count, outputs=(output,))
        )
    return replace(EMPTY, rules=tuple(rules), time=at, uptime_s=at)


def test_samples_are_differences() -> None:
    """Of all rules and of each; null at first, after a gap and where a counter fell."""
    history = History()
    history.add(reading(100.0, 50, 50))
    history.add(reading(102.0, 90, 50, lost=4))
    history.add_gap(104.0)
    history.add(reading(106.0, 10, 70, lost=4))
    total = history.as_dict()
    assert total["times"] == [100.0, 102.0, 104.0, 106.0]
    assert total["matched_pps"] == [None, 20.0, None, None]
    assert total["matched_bits_per_s"] == [None, 1600.0, None, None]
    assert total["sent_pps"] == [None, 18.0, None, None]
    assert total["lost_pps"] == [None, 2.0, None, None]
    assert history.as_dict("000000000001")["matched_pps"] == [None, 0.0, None, 5.0]
    assert history.as_dict("no such rule")["matched_pps"] == []
    assert history.latest()["times"] == 106.0


def test_a_set_clock_changes_no_rate() -> None:
    """Rates follow from the daemon's uptime; a new control process has none yet."""
    history = History()
    times = [(1000.0, 10.0), (1002.0, 12.0), (-2598.0, 14.0), (5000.0, 16.0), (5002.0, 1.0)]
    for number, (time, uptime_s) in enumerate(times):
        history.add(replace(reading(time, 40 * number), uptime_s=uptime_s))
    assert history.as_dict()["matched_pps"] == [None, 20.0, 20.0, 20.0, None]


def test_samples_are_bounded() -> None:
    """The oldest give way; those of removed rules are forgotten."""
    history = History()
    for number in range(limits.SAMPLES + 50):
        history.add(reading(float(number), number))
    kept = history.as_dict("000000000000")
    assert len(kept["times"]) == len(kept["lost_pps"]) == limits.SAMPLES
    assert kept["matched_pps"][-1] == 1.0
    history.add(reading(1000.0))
    assert history.as_dict("000000000000")["times"] == []


def test_a_slow_stream_loses_the_oldest_messages() -> None:
    """And learns how many; others are not affected."""

    async def follow() -> tuple[bytes, bytes]:
        feed = EventFeed()
        with feed.queue() as slow:
            for number in range(limits.STREAM_MESSAGES + 3):
                feed.add(Event(number, 0.0, "rule", "added", "text", {"id": str(number % 2)}))
            assert slow is not None
            first = await slow.take()
            feed.send("sample", {})
            return first, await slow.take()

    first, second = asyncio.run(follow())
    messages = first.decode().split("\n\n")
    assert messages[0] == 'event: gap\ndata: {"missed":3}'
    assert json.loads(messages[1].partition("data: ")[2])["sequence"] == 3
    assert second == b"event: sample\ndata: {}\n\n"


def test_the_number_of_streams_is_bounded() -> None:
    """One more gets none, until another has ended."""
    feed = EventFeed()
    open_queues = [feed.queue() for _ in range(limits.STREAMS)]
    assert all(isinstance(each.__enter__(), StreamQueue) for each in open_queues)
    with feed.queue() as one_more:
        assert one_more is None
    open_queues[0].__exit__(None, None, None)
    assert len(feed) == limits.STREAMS - 1


def test_the_events_of_a_rule() -> None:
    """By the id that events have."""
    feed = EventFeed()
    for number in range(limits.EVENTS + 4):
        feed.add(Event(number, 0.0, "rule", "added", "text", {"id": str(number % 2)}))
    assert len(feed.events()) == limits.EVENTS
    assert len(feed.events("1")) == limits.EVENTS / 2
    assert feed.last == limits.EVENTS + 3
