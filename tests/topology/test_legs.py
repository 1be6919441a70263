"""Events of merging rules: an input that is down, a switch, and a gap on all inputs."""

import time
from collections.abc import Callable, Iterator

import pytest
from tests.support.own_command import mcr_here

import mcr
from mcr.alarms.timing import Timing

from .daemons import serving
from .feeds import RULE, Feeds
from .lab import Lab
from .relays import Ingress, relaying

FAILOVER = RULE.replace("merge=rtp", "merge=failover,after=200ms")
QUICK = Timing(grace_s=0.5, clear_s=0.6, leg_s=0.6, summary_s=1.0, loss_end_s=1.5)
WITHIN_S = 20.0


@pytest.fixture
def feeds(lab: Lab) -> Iterator[Feeds]:
    """The feeds of a test."""
    with Feeds(lab) as feeds:
        yield feeds


class FedEvents:
    """The events of a relay, while the feeds go on."""

    def __init__(self, feeds: Feeds, read: Callable[[float], mcr.Event | None]) -> None:
        self._feeds = feeds
        self._read = read
        self._unseen: list[mcr.Event] = []

    def until(self, kind: str, event: str, *legs: int) -> mcr.Event:
        """Send on these feeds until such an event has arrived, and return it."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            for found in self._unseen:
                if (found.kind, found.event) == (kind, event):
                    self._unseen.remove(found)
                    return found
            assert time.monotonic() < deadline, (kind, event, self._unseen)
            self._feeds.tick(*legs, count=10)
            while (new := self._read(0.02)) is not None:
                self._unseen.append(new)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of less than a second for relays of this process."""
    monkeypatch.setattr("mcr.relay.active_rules.TIMING", QUICK)


@pytest.mark.usefixtures("quick")
def test_an_input_goes_down_and_returns(lab: Lab, feeds: Feeds, ingress: Ingress) -> None:
    """The switch, the alarm with its duration, and the state of the rule."""
    with (
        relaying(lab.relay, FAILOVER, ingress=ingress) as relay,
        relay.events(["alarm", "rule"]) as stream,
    ):
        events = FedEvents(feeds, stream.read)
        feeds.tick(0, 1, count=100)
        switched = events.until("rule", "switched", 1)
        assert (switched.fields["before"], switched.fields["after"]) == (1, 2)
        raised = events.until("alarm", "raised", 1)
        assert raised.alarm is not None
        assert (raised.alarm.code, raised.alarm.leg) == ("leg_down", 1)
        (rule,) = relay.stats().rules
        assert (rule.state_code, [each.leg for each in rule.alarms]) == ("degraded", [1])
        back = events.until("rule", "switched", 0, 1)
        assert (back.fields["before"], back.fields["after"]) == (2, 1)
        ended = events.until("alarm", "ended", 0, 1)
        assert ended.fields["leg"] == 1
        assert ended.fields["duration_s"] >= QUICK.leg_s
        assert relay.stats().rules[0].alarms == ()


@pytest.mark.usefixtures("quick")
def test_a_gap_on_all_inputs_is_a_loss(lab: Lab, feeds: Feeds, ingress: Ingress) -> None:
    """What one input has is none; the counts add up to what was lost."""
    with (
        relaying(lab.relay, RULE, ingress=ingress) as relay,
        relay.events(["loss"]) as stream,
    ):
        events = FedEvents(feeds, stream.read)
        feeds.tick(0, 1, count=50)
        feeds.tick(0, count=50)
        feeds.tick(1, count=50)
        feeds.next += 5
        began = events.until("loss", "began", 0, 1)
        assert began.loss is not None
        assert (began.loss.counts, began.loss.name) == ({"merge_gap": 5}, "pair")
        ended = events.until("loss", "ended", 0, 1)
        assert ended.loss is not None
        assert ended.loss.total == {"merge_gap": 5}


def test_a_daemon_logs_and_its_check_warns(lab: Lab, feeds: Feeds) -> None:
    """With the times of docs/redundancy.md."""
    with serving(lab.relay) as daemon, daemon.client() as client:
        client.add_rule(RULE)
        with client.events(["alarm"]) as stream:
            events = FedEvents(feeds, stream.read)
            feeds.tick(0, 1, count=20)
            raised = events.until("alarm", "raised", 0)
            text = "rule pair: input 2 is down: nothing for"
            assert raised.text.startswith(text)
            daemon.wait_for(text)
            check = mcr_here("check", "--socket", daemon.socket)
            assert check.code == 1
            assert check.out.startswith("MCR WARNING: pair: input 2 is down: nothing for")
            events.until("alarm", "ended", 0, 1)
            feeds.tick(0, 1, count=10)
            check = mcr_here("check", "--socket", daemon.socket)
            assert check.code == 0, check.out
