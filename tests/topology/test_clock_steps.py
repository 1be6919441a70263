"""The time of day is set while streams flow: no duration, rate or alarm follows it."""

import time

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import assert_balanced
from .lab import Lab
from .relays import Ingress, relaying
from .test_alarms import QUICK, flow, next_event

RULE = "239.1.47.1%in0:5001,name=feed,expect=1s+200pps to 239.2.47.1%out0:6001"
RATE_PPS = 400
HOUR_S = 3600.0
WATCHED_S = 1.5


class TimeOfDay:
    """`time.time` of this process, which a test can set; CLOCK_REALTIME stays as it is."""

    ahead_s = 0.0

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + self.ahead_s)


def test_a_set_clock_moves_only_times_of_day(
    lab: Lab, ingress: Ingress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and back by hours: uptime, rates, states and alarms are as before."""
    monkeypatch.setattr("mcr.relay.active_rules.TIMING", QUICK)
    clock = TimeOfDay(monkeypatch)
    with (
        relaying(lab.relay, RULE, ingress=ingress, flows=True) as relay,
        relay.events(["alarm"]) as stream,
    ):
        with flow(lab, RATE_PPS):
            wait_until(lambda: (relay.stats().rules[0].rate_1s or mcr.Rate(0, 0, 0)).pps > 300)
            for step_s in (HOUR_S, -2 * HOUR_S):
                before, began_s = relay.stats().uptime_s, time.monotonic()
                clock.ahead_s += step_s
                watch(relay, before, began_s)
        assert stream.read(0) is None
        raised = next_event(stream.read, "alarm", "raised")
        assert abs(raised.at - time.time()) < WATCHED_S
        (alarm,) = relay.stats().rules[0].alarms
        silent_since_s = time.monotonic() - (time.time() - alarm.since)
        clock.ahead_s += HOUR_S
        with flow(lab, RATE_PPS):
            ended = next_event(stream.read, "alarm", "ended")
        assert 0 < ended.fields["duration_s"] < time.monotonic() - silent_since_s + 1


def watch(relay: mcr.Relay, before_s: float, began_s: float) -> None:
    """Read for a while: all is as it was before the step, and times of day follow the clock."""
    while (passed_s := time.monotonic() - began_s) < WATCHED_S:
        stats = relay.stats()
        assert_balanced(stats)
        (rule,) = stats.rules
        assert before_s <= stats.uptime_s < before_s + passed_s + 1
        assert (rule.state_code, rule.alarms) == ("flowing", ())
        assert rule.rate_1s is not None
        # An hour would show by far; a busy machine may let the sender wait, and then hurry.
        assert RATE_PPS / 8 < rule.rate_1s.pps < RATE_PPS * 8
        assert rule.facts.last_seen is not None
        assert abs(stats.time - rule.facts.last_seen) < 1
        assert all(abs(each.last_seen - stats.time) < 1 for each in relay.flows())
