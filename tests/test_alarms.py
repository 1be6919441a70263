"""Alarms and losses as events, from made-up samples and times."""

import asyncio
from collections.abc import Iterable
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from tests.support.strategies import rules

import mcr
from mcr.alarms.budget import EVENTS_AT_ONCE, EventBudget
from mcr.alarms.expectations import ExpectationMonitor, RuleLevel
from mcr.alarms.legs import LegMonitor, MergeLevel
from mcr.alarms.loops import FoundLoop, LoopMonitor
from mcr.alarms.losses import LossMonitor, NewLoss
from mcr.alarms.notice import Moment, Notice, WatchedRule
from mcr.alarms.sources import NewSource, SourceMonitor
from mcr.alarms.timing import Timing
from mcr.relay.event_stream import QUEUE_EVENTS, RelayEventStream
from mcr.rules import Rule
from mcr.rules.expectation import Expectation
from mcr.rules.objects import object_from_rule, rule_from_object
from mcr.stats.rule_state import RuleStatus, rule_state

PLAIN = "239.1.1.1%eth0:5001{} to 239.2.0.1%eth1:6001"
TIMING = Timing()
EPOCH_S = 1_700_000_000.0


def moment(second: float) -> Moment:
    """So many seconds after the start."""
    return Moment(second, EPOCH_S + second)


def watched(options: str = "", *, enabled: bool = True) -> WatchedRule:
    """A rule with these options of its input."""
    rule = SimpleNamespace(rule=Rule.parse(PLAIN.format(options)), enabled=enabled)
    return cast(WatchedRule, rule)


class Samples:
    """Samples of one rule, half a second apart."""

    def __init__(self, default: Expectation | None = None) -> None:
        self.monitor = ExpectationMonitor(default, TIMING)
        self.second = 0.0
        self.last_s: float | None = None
        self.notices: list[Notice] = []

    def run(
        self,
        rule: WatchedRule | None,
        seconds: float,
        *,
        pps: float = 1000,
        senders: int | None = 1,
        is_silent: bool = False,
    ) -> list[str]:
        """Sample for so long; return the codes and events that are new."""
        known = len(self.notices)
        for _ in range(int(2 * seconds)):
            self.second += 0.5
            if not is_silent:
                self.last_s = self.second
            age_ms = None if self.last_s is None else int(1000 * (self.second - self.last_s))
            level = RuleLevel(age_ms, pps, 8000 * pps, senders)
            chosen = self.monitor.watched([] if rule is None else [rule])
            self.notices += self.monitor.sample(moment(self.second), chosen, [level] * len(chosen))
        return [f"{each.fields['code']} {each.event}" for each in self.notices[known:]]


def test_silence_becomes_an_alarm_once_and_ends_with_its_duration() -> None:
    """One event, however long it lasts; it has ended once traffic has been back for a while."""
    rule, samples = watched(",name=feed,expect=2s"), Samples()
    assert samples.run(rule, 10) == []
    assert samples.run(rule, 2, is_silent=True) == []
    assert samples.run(rule, 60, is_silent=True) == ["silent raised"]
    (alarm,) = samples.monitor.alarms(rule.rule.id)
    assert (alarm.code, alarm.expected, alarm.seen) == ("silent", 2, 62)
    assert alarm.since == EPOCH_S + 10
    assert samples.run(rule, 2) == []
    assert samples.run(rule, 1, is_silent=True) == []
    assert samples.run(rule, 6) == ["silent ended"]
    ended = samples.notices[-1]
    assert ended.fields["duration_s"] == 62.5
    assert (ended.fields["name"], ended.fields["since"]) == ("feed", EPOCH_S + 10)
    assert samples.monitor.alarms(rule.rule.id) == ()


def test_a_rule_that_never_hears_anything_is_silent_after_its_grace() -> None:
    """Joining takes a while; and silence counts from then."""
    rule, samples = watched(",expect=1s"), Samples()
    assert samples.run(rule, TIMING.grace_s + 1.5, is_silent=True) == []
    assert samples.run(rule, 1, is_silent=True) == ["silent raised"]


def test_a_rate_is_low_below_its_tolerance_for_a_while() -> None:
    """At 10 % by default, and only if it lasts."""
    rule, samples = watched(",expect=1000pps+8mbps~50%"), Samples()
    assert samples.run(rule, 10, pps=901) == []
    assert samples.run(rule, 1.5, pps=800) == []
    assert samples.run(rule, 10) == []
    assert samples.run(rule, 10, pps=800) == ["low_pps raised"]
    assert samples.run(rule, 10, pps=400) == ["low_bitrate raised"]
    assert {alarm.code for alarm in samples.monitor.alarms(rule.rule.id)} == {
        "low_pps",
        "low_bitrate",
    }
    assert sorted(samples.run(rule, 5)) == ["low_bitrate ended", "low_pps ended"]


def test_silence_is_one_alarm_even_if_rates_are_expected_too() -> None:
    """A stream that stops is silent; that its rate is 0 says nothing more."""
    rule, samples = watched(",expect=2s+1000pps+1source"), Samples()
    samples.run(rule, 10)
    assert samples.run(rule, 20, is_silent=True, pps=0, senders=0) == ["silent raised"]


def test_the_number_of_senders() -> None:
    """More or fewer; unknown is no alarm."""
    rule, samples = watched(",expect=1source"), Samples()
    samples.run(rule, 10)
    assert samples.run(rule, 10, senders=None) == []
    assert samples.run(rule, 10, senders=2) == ["many_sources raised"]
    assert samples.run(rule, 10) == ["many_sources ended"]
    assert samples.run(rule, 10, senders=0) == ["few_sources raised"]


def test_a_rule_that_is_disabled_changed_or_removed_has_no_alarm() -> None:
    """The alarm ends at once, and judgement begins anew."""
    rule, samples = watched(",expect=1s"), Samples()
    for other in (watched(",expect=1s", enabled=False), watched(",expect=none"), None):
        assert samples.run(rule, 10, is_silent=True) == ["silent raised"]
        assert samples.run(other, 1, is_silent=True) == ["silent ended"]
        assert samples.monitor.alarms(rule.rule.id) == ()


def test_the_default_is_for_rules_that_say_nothing() -> None:
    """And `none` is something."""
    default = Expectation.parse("1s")
    assert Samples(default).run(watched(), 10, is_silent=True) == ["silent raised"]
    assert Samples(default).run(watched(",expect=none"), 10, is_silent=True) == []
    assert Samples().run(watched(), 10, is_silent=True) == []


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("2s", "2s"),
        ("1500ms", "1500ms"),
        ("1.5s+8mbps~10%", "1500ms+8mbps"),
        ("1source+2.5mbps~5+900pps~0%+60s", "60s+900pps~0%+2500kbps~5%+1source"),
        ("2sources", "2sources"),
        ("none", "none"),
    ],
)
def test_canonical_expectations(text: str, canonical: str) -> None:
    """Each value has one text, in rules too, and is not part of their identity."""
    rule = Rule.parse(PLAIN.format(f",expect={text}"))
    assert str(rule.expect) == canonical
    assert f",expect={canonical} to " in str(rule)
    assert rule.id == Rule.parse(PLAIN.format("")).id
    assert Rule(rule.input, rule.outputs, expect=text) == rule


@pytest.mark.parametrize(
    "text",
    ["2", "2m", "0s", "99ms", "1s+2s", "1s~10%", "8mbps~100%", "", "1pps+", "1.5pps", "0source"],
)
def test_refused_expectations(text: str) -> None:
    """Each with one sentence."""
    with pytest.raises(mcr.RuleError) as caught:
        Rule.parse(PLAIN.format(f",expect={text}"))
    assert [each.field for each in caught.value.problems] == ["input, expect"]


@given(rules())
def test_a_rule_as_an_object_keeps_its_expectation(rule: Rule) -> None:
    """As its text does."""
    assert rule_from_object(object_from_rule(rule)) == rule


def test_the_state_of_a_rule_with_an_alarm() -> None:
    """Less than expected comes before more."""
    few = mcr.Alarm("silent", EPOCH_S, 2, 12.25)
    many = mcr.Alarm("many_sources", EPOCH_S, 1, 2)
    base = {"interface": "eth0", "group": "239.1.1.1", "ports": "5001", "joined": True}
    flowing: Any = base | {"matched": 1, "last_seen_age_ms": 100}
    assert rule_state(RuleStatus(**flowing, alarms=[many])) == (
        "above_expected",
        "2 sources, 1 expected; flowing",
    )
    silent: Any = base | {"matched": 1, "last_seen_age_ms": 12_250}
    assert rule_state(RuleStatus(**silent, alarms=[few, many])) == (
        "below_expected",
        "nothing for 12.2 s, expected within 2 s; 2 sources, 1 expected; silent for 12 s",
    )


def test_a_loop_comes_before_what_is_expected() -> None:
    """It is the cause of what else is wrong."""
    loop = mcr.Alarm("loop", EPOCH_S, 0, 3, "10.0.0.9")
    few = mcr.Alarm("silent", EPOCH_S, 2, 12.25)
    base: Any = {"interface": "eth0", "group": "239.1.1.1", "ports": "5001", "joined": True}
    code, sentence = rule_state(RuleStatus(**base, matched=1, alarms=[few, loop]))
    assert code == "looping"
    assert "a loop: what it has relayed comes back, from 10.0.0.9" in sentence


class LegSamples:
    """Samples of a rule with two inputs, half a second apart."""

    def __init__(self, options: str = "merge=rtp") -> None:
        text = f"239.1.1.1%a:1 + 239.1.1.2%b:1,name=pair,{options} to 192.0.2.7:1"
        rule = SimpleNamespace(rule=Rule.parse(text), enabled=True)
        self.rule = cast(WatchedRule, rule)
        self.monitor = LegMonitor(TIMING)
        self.second = 0.0
        self.last_s: list[float | None] = [None, None]

    def run(
        self, seconds: float, *silent: int, lost: int = 0, active: int | None = None
    ) -> list[str]:
        """Sample for so long, with these inputs silent; return the texts of what is new."""
        found: list[str] = []
        for _ in range(int(2 * seconds)):
            self.second += 0.5
            for leg in {0, 1} - {*silent}:
                self.last_s[leg] = self.second
            ages = (None if each is None else self.second - each for each in self.last_s)
            ages_ms = tuple(None if age is None else int(1000 * age) for age in ages)
            level = MergeLevel(ages_ms, lost, active, active or 0)
            notices, losses = self.monitor.sample(moment(self.second), [(self.rule, level)])
            found += [each.text for each in notices]
            found += [f"{each.place}: {dict(each.counts)}" for each in losses]
        return found


def test_an_input_is_down_while_another_delivers() -> None:
    """One event, and one when it has been back for a while; none if all are silent."""
    samples = LegSamples()
    assert samples.run(10) == samples.run(30, 0, 1) == samples.run(5) == []
    down = "rule pair: input 2 is down: nothing for 2.0 s, while another delivers: 239.1.1.2%b:1"
    assert samples.run(60, 1) == [down]
    (alarm,) = samples.monitor.alarms(samples.rule.rule.id)
    assert (alarm.code, alarm.leg, alarm.since, alarm.seen) == ("leg_down", 2, EPOCH_S + 45, 60)
    assert samples.run(10, 0, 1) == samples.run(1) == samples.run(3, 1) == []
    assert samples.run(4) == ["rule pair: input 2 is back; it was down for 74.5 s"]
    assert samples.monitor.alarms(samples.rule.rule.id) == ()


def test_an_input_that_never_delivers_is_down_unless_nothing_is_expected() -> None:
    """A standby may be silent until it is needed."""
    samples = LegSamples("merge=failover,after=5s")
    assert samples.run(4.5, 1, active=0) == []
    (text,) = samples.run(1, 1, active=0)
    assert text.startswith("rule pair: input 2 is down: nothing for 5.0 s")
    samples = LegSamples("merge=failover,expect=none")
    assert samples.run(20, 1, active=0) == []


def test_each_switch_of_a_failover_is_an_event() -> None:
    """Also the one back."""
    samples = LegSamples("merge=failover")
    assert samples.run(1, active=0) == []
    away = "rule pair sends input 2 instead of input 1: 239.1.1.2%b:1"
    back = "rule pair sends input 1 instead of input 2: 239.1.1.1%a:1"
    assert samples.run(1, active=1) == [away]
    assert samples.run(1, active=0) == [back]


def test_numbers_that_no_input_delivers_are_lost_once_they_last() -> None:
    """Another input may be behind; and a new worker has lost nothing."""
    samples = LegSamples()
    assert samples.run(3, lost=7) == samples.run(2, lost=9) == samples.run(3, lost=7) == []
    assert samples.run(5, lost=10) == ["the merge of rule pair: {'merge_gap': 3}"]
    assert samples.run(5, lost=12) == ["the merge of rule pair: {'merge_gap': 2}"]
    assert samples.run(5, lost=0) == []
    assert samples.run(5, lost=4) == ["the merge of rule pair: {'merge_gap': 4}"]


def test_a_rule_with_an_input_down_is_degraded() -> None:
    """Unless it lacks something, too."""
    down = mcr.Alarm("leg_down", EPOCH_S, 2, 12.25, leg=2)
    few = mcr.Alarm("silent", EPOCH_S, 2, 12.25)
    base: Any = {"interface": "eth0", "group": "239.1.1.1", "ports": "5001", "joined": True}
    code, sentence = rule_state(RuleStatus(**base, matched=1, last_seen_age_ms=1, alarms=[down]))
    text = "input 2 is down: nothing for 12.2 s, while another delivers; flowing"
    assert (code, sentence) == ("degraded", text)
    assert rule_state(RuleStatus(**base, alarms=[down, few])).code == "below_expected"


def losses(monitor: LossMonitor, second: float, **counts: int) -> list[Notice]:
    """Sample one output that has lost so many."""
    given = [NewLoss("output 1 of rule feed", {"id": "a", "output": 1}, counts)] if counts else []
    return monitor.sample(moment(second), given)


def test_a_loss_begins_continues_once_a_minute_and_ends() -> None:
    """The counts of its events add up to all that was lost."""
    monitor, notices = LossMonitor(TIMING), list[Notice]()
    for second in range(150):
        notices += losses(monitor, second, output_full=10)
    notices += losses(monitor, 150, too_big=1)
    for second in range(151, 200):
        notices += losses(monitor, second)
    events = [(each.event, each.fields["counts"]) for each in notices]
    assert events == [
        ("began", {"output_full": 10}),
        ("continues", {"output_full": 600}),
        ("continues", {"output_full": 600}),
        ("began", {"output_full": 290, "too_big": 1}),
        ("ended", {}),
    ]
    assert notices[-1].fields["total"] == {"output_full": 1500, "too_big": 1}
    assert notices[-1].fields["duration_s"] == 150
    assert "check the MTU" in notices[3].text


def test_many_losses_at_once_are_one_event() -> None:
    """With the sums; and the burst comes back with time."""
    monitor, budget = LossMonitor(TIMING), EventBudget()

    def sample(second: float, count: int) -> list[Notice]:
        lost = [
            NewLoss(f"output {each}", {"id": str(each)}, {"output_full": 2})
            for each in range(count)
        ]
        return budget.condense(second, monitor.sample(moment(second), lost))

    (event,) = sample(0, 10_000)
    assert event.fields == {"what": "began", "of": 10_000, "counts": {"output_full": 20_000}}
    assert (event.kind, event.event) == ("loss", "many")
    assert [each.event for each in sample(60, 0)] == ["many"]
    assert len(sample(120, EVENTS_AT_ONCE)) == EVENTS_AT_ONCE


def test_a_changing_sender_is_reported_once_a_minute() -> None:
    """Where one sender is usual."""
    monitor = SourceMonitor(TIMING)
    first, second = ip_address("10.0.0.1"), ip_address("10.0.0.2")

    def sample(at_s: float, rule: WatchedRule) -> list[Notice]:
        return monitor.sample(moment(at_s), [NewSource(rule, first, second)])

    plain = watched()
    assert [each.event for each in sample(0, plain)] == ["source_changed"]
    assert [sample(at_s, plain) for at_s in range(1, 60)] == [[]] * 59
    (again,) = sample(61, plain)
    assert again.fields["changes"] == 60
    assert sample(62, watched(",expect=2sources")) == []


def test_a_loop_is_one_alarm_until_nothing_comes_back() -> None:
    """Its text names where from; it ends with its rule, and with the time."""
    monitor, rule = LoopMonitor(TIMING), watched(",name=feed")
    rule_id, source = rule.rule.id, ip_address("10.0.0.9")

    def sample(second: float, payloads: int, *, is_known: bool = True) -> list[str]:
        found = [FoundLoop(rule, payloads, source)] if payloads else []
        notices = monitor.sample(moment(second), found, {rule_id: rule} if is_known else {})
        return [f"{each.fields['code']} {each.event}: {each.text}" for each in notices]

    text = "rule feed: a loop: what it has relayed comes back, from 10.0.0.9"
    assert sample(0, 3) == [f"loop raised: {text}"]
    assert [sample(second, 1) for second in range(1, 20)] == [[]] * 19
    (alarm,) = monitor.alarms(rule_id)
    assert (alarm.seen, alarm.since, alarm.source) == (22, EPOCH_S, "10.0.0.9")
    assert [sample(second, 0) for second in range(20, 29)] == [[]] * 9
    assert sample(29, 0) == ["loop ended: rule feed: the alarm loop ended after 19.0 s"]
    assert monitor.alarms(rule_id) == ()
    assert len(sample(30, 3)) == 1
    (ended,) = sample(31, 0, is_known=False)
    assert ended.endswith("after 0.0 s, as it is no longer watched")


def events(count: int) -> Iterable[mcr.Event]:
    """Numbered events."""
    return (mcr.Event(number, 0.0, "loss", "began", "") for number in range(1, count + 1))


def test_a_stream_that_is_not_read_drops_and_says_so() -> None:
    """A bounded queue, then a gap in place of the rest."""
    stream = RelayEventStream(["loss"], lambda _: None)
    for event in events(QUEUE_EVENTS + 5):
        stream.offer(event)
    stream.offer(mcr.Event(0, 0.0, "alarm", "raised", ""))
    assert stream.missed == 5
    assert [stream.read(0) for _ in range(QUEUE_EVENTS)] == [*events(QUEUE_EVENTS)]
    gap = stream.read(0)
    assert gap is not None
    assert (gap.kind, gap.missed, gap.sequence) == ("gap", 5, QUEUE_EVENTS + 5)
    assert stream.read(0) is None
    stream.close()
    assert list(stream) == []
    with pytest.raises(mcr.McrError, match="has ended"):
        stream.read()


def test_a_stream_wakes_the_task_that_waits() -> None:
    """For an event, for the end, and not after it was cancelled."""
    stream = RelayEventStream(["loss"], lambda _: None)

    async def read() -> list[int]:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.01)
        for number, event in enumerate(events(3)):
            loop.call_later(0.01 * number, stream.offer, event)
        loop.call_later(0.05, stream.close)
        return [event.sequence async for event in stream]

    assert asyncio.run(read()) == [1, 2, 3]
