"""Alarms and losses of a relay and a daemon, while real streams stop, slow down and come back."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import pytest
from tests.support.deadline import wait_until
from tests.support.own_command import mcr_here

import mcr
from mcr.alarms.timing import Timing

from .checks import assert_balanced, settle
from .daemons import serving
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import PacedFlow, payloads

GROUP = "239.1.47.1"
RULE = f"{GROUP}%in0:5001,name=feed,expect={{}} to 239.2.47.1%out0:6001"
SLOW = "239.1.47.2%in0:5001,name=slow to 239.2.47.2%out1:6001"
QUICK = Timing(grace_s=0.5, hold_s=0.6, clear_s=0.6, senders_s=1.0, summary_s=1.0, loss_end_s=1.5)
FIRST, SECOND = ("10.1.0.2", 4701), ("10.1.0.3", 4702)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of seconds, not minutes, for relays of this process."""
    monkeypatch.setattr("mcr.relay.active_rules.TIMING", QUICK)


@contextlib.contextmanager
def flow(lab: Lab, rate_pps: int = 400, source: tuple[str, int] = FIRST) -> Iterator[PacedFlow]:
    """A stream for the rule while the block runs."""
    with lab.sender(GROUP, 5001, source=source) as sender, PacedFlow(sender, rate_pps) as paced:
        yield paced


def next_event(
    read: Callable[[float], mcr.Event | None], kind: str, event: str, within_s: float = 10
) -> mcr.Event:
    """The next event of this kind."""
    while True:
        found = read(within_s)
        assert found is not None, f"no {kind} {event}"
        if (found.kind, found.event) == (kind, event):
            return found


def alarm(event: mcr.Event) -> tuple[str, float]:
    """Its code and what was expected."""
    found = event.alarm
    assert found is not None
    return found.code, found.expected


@pytest.mark.usefixtures("quick")
def test_a_stream_stops_returns_slows_down_and_gets_a_second_sender(
    lab: Lab, ingress: Ingress
) -> None:
    """Each is one alarm with its end, in events, state and statistics."""
    rule = RULE.format("700ms+300pps+1source")
    with (
        relaying(lab.relay, rule, ingress=ingress, flows=True) as relay,
        relay.events(["alarm"]) as stream,
    ):
        with flow(lab) as paced:
            paced.advance(300)
            wait_until(lambda: (relay.stats().rules[0].rate_1s or mcr.Rate(0, 0, 0)).pps > 350)
            assert relay.stats().rules[0].state_code == "flowing"
        raised = next_event(stream.read, "alarm", "raised")
        assert alarm(raised) == ("silent", 0.7)
        (known,) = relay.stats().rules[0].alarms
        last_seen = relay.stats().rules[0].facts.last_seen
        assert last_seen is not None
        assert abs(known.since - last_seen) < 0.1
        assert relay.stats().rules[0].state_code == "below_expected"
        with flow(lab):
            ended = next_event(stream.read, "alarm", "ended")
            assert alarm(ended) == ("silent", 0.7)
            outage_s = ended.at - QUICK.clear_s - known.since
            assert abs(ended.fields["duration_s"] - outage_s) < 0.7
            with flow(lab, 50, SECOND):
                raised = next_event(stream.read, "alarm", "raised")
                assert alarm(raised) == ("many_sources", 1)
                assert raised.fields["seen"] == 2
                assert relay.stats().rules[0].state_code == "above_expected"
            next_event(stream.read, "alarm", "ended")
        with flow(lab, 100):
            assert alarm(next_event(stream.read, "alarm", "raised")) == ("low_pps", 300)
            assert relay.stats().rules[0].state_code == "below_expected"
        rows = relay.stats().to_dicts()
        assert "low_pps" in rows["rules"][0]["alarms"]
        assert rows["outputs"][0]["rule_name"] == "feed"
        assert rows["outputs"][0]["dropped_output_full"] == 0
        relay.disable_rule("feed")
        next_event(stream.read, "alarm", "ended")
        assert relay.stats().rules[0].alarms == ()
    assert list(stream) == [] or stream.missed == 0


@pytest.mark.usefixtures("quick")
def test_the_events_of_a_loss_count_what_the_counters_count(lab: Lab, ingress: Ingress) -> None:
    """The first copy lost, summaries while it lasts, and the end; nothing twice or left out."""
    lost: list[mcr.LossReport] = []
    events: list[str] = []

    async def read(stream: mcr.RelayEventStream) -> None:
        async for event in stream:
            report = event.loss
            assert report is not None
            assert (report.name, report.output, report.address) == ("slow", 1, "239.2.47.2")
            events.append(event.event)
            lost.append(report)
            if event.event == "ended":
                return

    with (
        lab.relay.shaped("out1", "tbf", "rate", "1mbit", "burst", "20000", "limit", "20000"),
        relaying(lab.relay, SLOW, ingress=ingress) as relay,
        relay.events(["loss"]) as stream,
        lab.sender("239.1.47.2", 5001) as sender,
    ):
        with PacedFlow(sender, 2000, 1000) as paced:
            wait_until(lambda: relay.stats().rules[0].lost > 0)
            paced.advance(4000)
        asyncio.run(asyncio.wait_for(read(stream), 15))
        stats = settle(relay, lambda now: now.rules[0].matched == len(paced.sent))
        dropped = {why: n for why, n in stats.rules[0].outputs[0].dropped.items() if n}
        assert dropped.keys() == {"output_full"}
        assert sum(report.counts.get("output_full", 0) for report in lost) == dropped["output_full"]
        assert lost[-1].total == dropped
        assert events[0] == "began"
        assert events[-1] == "ended"
        assert 1 <= len(events) - 2 <= 4, events
        lab.relay.reshape("out1", "tbf", "rate", "10gbit", "burst", "20000", "limit", "20000")


def test_a_changed_sender_is_an_event(lab: Lab) -> None:
    """Named by address."""
    with (
        relaying(lab.relay, RULE.format("none"), ingress="packet") as relay,
        relay.events(["rule"]) as stream,
        lab.sender(GROUP, 5001, source=FIRST) as first,
        lab.sender(GROUP, 5001, source=SECOND) as second,
    ):
        first.send(payloads(1))
        wait_until(lambda: relay.stats().rules[0].facts.last_source == FIRST[0])
        assert stream.read(0.6) is None
        second.send(payloads(1))
        event = next_event(stream.read, "rule", "source_changed")
        assert (event.fields["before"], event.fields["after"]) == (FIRST[0], SECOND[0])


def test_what_waits_and_is_parked_is_an_event(lab: Lab) -> None:
    """Each beginning with its reason, and each end; nothing that was so before."""
    idle = "239.1.47.9%nosuch0:5001,name=idle to 239.2.47.9%out1:6009"
    with (
        relaying(lab.relay, RULE.format("none"), idle, ingress="packet") as relay,
        relay.events(["rule"]) as stream,
    ):
        assert stream.read(0.6) is None
        for interface, began, ended, text in (
            ("out0", "parked", "unparked", "output 1 of rule feed is parked: out0 is down"),
            ("in0", "waiting", "resumed", "rule feed waits: waiting: in0 is down"),
        ):
            with lab.relay.down(interface):
                assert next_event(stream.read, "rule", began).text == text
            assert next_event(stream.read, "rule", ended).fields["name"] == "feed"


def check(socket: str, *arguments: str) -> tuple[int, str]:
    """The exit code and the line of `mcr check`."""
    done = mcr_here("check", *arguments, "--socket", socket)
    return done.code, done.out


def test_a_daemon_reports_alarms_and_losses(lab: Lab) -> None:
    """As events, in the log, in `mcr check`; for rules by its default, and only while enabled."""
    with (
        lab.relay.shaped("out1", "tbf", "rate", "1mbit", "burst", "20000", "limit", "20000"),
        serving(lab.relay, "--expect", "500ms", "--workers", "2") as daemon,
        daemon.client() as client,
        client.events(["alarm"]) as stream,
        client.events(["loss"]) as losses,
    ):
        feed = RULE.replace(",expect={}", "")
        warned = client.add_rules([feed, SLOW.replace(",name=slow", ",name=slow,expect=1source")])
        assert [each for each in warned.warnings if "start with --flows" in each]
        with flow(lab), lab.sender("239.1.47.2", 5001) as sender:
            sender.send(payloads(500))
            began = next_event(losses.read, "loss", "began").loss
            assert began is not None
            assert (began.name, began.output) == ("slow", 1)
            wait_until(lambda: client.rule("feed").state_code == "flowing")
            code, line = check(str(daemon.socket), "feed")
            assert (code, line.split(" | ")[0]) == (0, "MCR OK: 1 of 1 rules flowing")
        raised = next_event(stream.read, "alarm", "raised")
        assert (raised.fields["name"], raised.alarm and raised.alarm.code) == ("feed", "silent")
        rule = client.rule("feed")
        assert rule.state_code == "below_expected"
        assert rule.alarms == client.stats(["feed"]).rules[0].alarms
        code, line = check(str(daemon.socket))
        assert code == 2
        assert line.startswith("MCR CRITICAL: feed: nothing for ")
        assert check(str(daemon.socket), "nothing-like-it")[0] == 3
        client.disable_rule("feed")
        next_event(stream.read, "alarm", "ended")
        ended = next_event(losses.read, "loss", "ended", 15).loss
        assert ended is not None
        stats = client.stats()
        assert_balanced(stats)
        dropped = {why: n for why, n in stats.rules[1].outputs[0].dropped.items() if n}
        assert ended.total == dropped
        daemon.wait_for("info: egress: output 1 of rule slow loses no more")
        log = daemon.read_log()
        assert "warning: rules: rule feed: nothing for " in log
        assert "warning: egress: output 1 of rule slow loses " in log
        lab.relay.reshape("out1", "tbf", "rate", "10gbit", "burst", "20000", "limit", "20000")
