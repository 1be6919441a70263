"""The statistics of a relay: their JSON, their balances, and rates."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from mcr.stats import InterfaceStats, OutputLoss, OutputStats, Rate, RuleFacts, RuleStats, Stats

OUTPUT = OutputStats(
    output="239.2.0.1%eth1:6001",
    wanted=10,
    sent=7,
    sent_bytes=700,
    pending=1,
    refused=0,
    dropped={"output_full": 1, "send_error": 1},
    errors={"ENETUNREACH": 1},
    address="239.2.0.1",
    last_loss=OutputLoss(1700000000.0, "send_error", "ENETUNREACH"),
)
RULE = RuleStats(
    id="0123456789ab",
    name="feed-a",
    rule="239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001",
    state="flowing from 10.0.0.5",
    matched=10,
    matched_bytes=1000,
    outputs=(OUTPUT,),
    state_code="flowing",
    facts=RuleFacts(last_seen=1700000000.25, silent_s=0.5, last_source="10.0.0.5"),
)
INTERFACE = InterfaceStats(
    name="eth0",
    ingress="packet",
    received=12,
    matched=10,
    kernel_dropped_frames=0,
    buffer_waits=0,
    error=None,
    dropped={"no_rule": 2},
    received_bytes=1200,
    rate_1s=Rate(12.0, 9600.0, 2.0),
)
STATS = Stats(
    interfaces=(INTERFACE,), rules=(RULE,), taken_at_s=100.0, time=1700000000.5, uptime_s=60.0
)
QUIET = replace(OUTPUT, dropped={"output_full": 0}, errors={})
FACTS = {
    "last_seen": 1700000000.25,
    "silent_s": 0.5,
    "last_source": "10.0.0.5",
    "obstacle": None,
    "shadowed_by": None,
    "unmatched": 0,
    "unmatched_at": None,
    "unmatched_port": None,
    "unmatched_source": None,
}
OUTPUT_OBJECT = {
    "output": "239.2.0.1%eth1:6001",
    "address": "239.2.0.1",
    "wanted": 10,
    "sent": 7,
    "sent_bytes": 700,
    "pending": 1,
    "refused": 0,
    "dropped": {"output_full": 1, "send_error": 1},
    "errors": {"ENETUNREACH": 1},
    "parked": None,
    "way": "socket",
    "way_reason": None,
    "last_loss": {
        "at": 1700000000.0,
        "reason": "send_error",
        "errno": "ENETUNREACH",
    },
    "last_refused": None,
    "rate_1s": None,
    "rate_10s": None,
}


def test_json_keys_are_stable() -> None:
    """Scripts read them, so they are never renamed."""
    found = STATS.as_dict()
    assert found == {
        "time": 1700000000.5,
        "uptime_s": 60.0,
        "interfaces": [
            {
                "name": "eth0",
                "ingress": "packet",
                "received": 12,
                "matched": 10,
                "kernel_dropped_frames": 0,
                "buffer_waits": 0,
                "error": None,
                "dropped": {"no_rule": 2},
                "received_bytes": 1200,
                "rate_1s": {"pps": 12.0, "bits_per_s": 9600.0, "dropped_pps": 2.0},
                "rate_10s": None,
            }
        ],
        "rules": [
            {
                "id": "0123456789ab",
                "name": "feed-a",
                "rule": "239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001",
                "state": "flowing from 10.0.0.5",
                "state_code": "flowing",
                "facts": FACTS,
                "flows_evicted": 0,
                "looped": 0,
                "alarms": [],
                "rate_1s": None,
                "rate_10s": None,
                "matched": 10,
                "matched_bytes": 1000,
                "outputs": [OUTPUT_OBJECT],
                "offload": "engine",
                "offload_reason": None,
                "offload_detail": None,
                "latency": None,
                "merge": None,
            }
        ],
        "classes": [],
    }


def test_stats_are_values() -> None:
    """Readings with equal counts are equal, whatever their time, and immutable."""
    assert replace(STATS, taken_at_s=200.0) == STATS
    with pytest.raises(FrozenInstanceError):
        STATS.rules = ()  # type: ignore[misc]


def test_correct_counters_balance() -> None:
    """They have no imbalances."""
    assert STATS.imbalances() == ()


def test_every_broken_balance_is_named() -> None:
    """With its place."""
    output = replace(OUTPUT, wanted=11, errors={})
    broken = Stats(
        interfaces=(replace(INTERFACE, received=13),), rules=(replace(RULE, outputs=(output,)),)
    )
    assert broken.imbalances() == (
        "eth0: received 13, accounted for 12",
        "239.2.0.1%eth1:6001: wanted 11, accounted for 10",
        "239.2.0.1%eth1:6001: 1 send errors, 0 by errno",
    )


def test_rates_are_per_second_between_two_readings() -> None:
    """By the measured time between the readings."""
    more = replace(OUTPUT, dropped={"output_full": 5, "send_error": 1})
    rule = replace(RULE, matched=1010, matched_bytes=126_000, outputs=(more,))
    rate = replace(STATS, rules=(rule,), taken_at_s=102.0).rates_since(STATS)[RULE.id]
    assert (rate.matched_pps, rate.matched_bits_per_s, rate.lost_pps) == (500, 500_000, 2)


def test_a_rule_added_in_between_started_from_zero() -> None:
    """A rule that the earlier reading lacks still has a rate."""
    before = Stats(interfaces=(), rules=(), taken_at_s=95.0)
    assert STATS.rates_since(before)[RULE.id].matched_pps == 2


@pytest.mark.parametrize("matched", [4, 11])
def test_a_rule_whose_counts_restarted_started_from_zero(matched: int) -> None:
    """For example after its host name got another address."""
    fresh = replace(RULE, matched=matched, matched_bytes=400, outputs=(QUIET,))
    rate = replace(STATS, rules=(fresh,), taken_at_s=102.0).rates_since(STATS)[RULE.id]
    assert (rate.matched_pps, rate.matched_bits_per_s, rate.lost_pps) == (matched / 2, 1600, 0)


def test_rates_without_time_in_between_are_zero() -> None:
    """Two readings at once divide by nothing."""
    assert STATS.rates_since(STATS)[RULE.id].matched_pps == 0


def test_readings_are_restored_from_json() -> None:
    """From the output of `mcr relay --json`; problems are named."""
    stats = Stats((INTERFACE,), (RULE,))
    assert Stats.from_dict(json.loads(json.dumps(stats.as_dict()))) == stats
    broken = stats.as_dict()
    broken["rules"][0]["outputs"][0]["sent"] = "many"
    with pytest.raises(ValueError, match=r"rules\[0\]\.outputs\[0\]\.sent: input should be a v"):
        Stats.from_dict(broken)
