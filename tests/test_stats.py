"""The numbers of a relay: their shape as JSON, their balances, and the words of a state."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from mcr.stats import InterfaceStats, OutputStats, RuleSight, RuleStats, Stats, rule_state

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
)
RULE = RuleStats(
    id="0123456789ab",
    name="feed-a",
    rule="239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001",
    state="flowing from 10.0.0.5",
    matched=10,
    matched_bytes=1000,
    outputs=(OUTPUT,),
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
)
STATS = Stats(interfaces=(INTERFACE,), rules=(RULE,), taken_at_s=100.0)
SIGHT = RuleSight(interface="eth0", group="239.1.1.1", ports="5001", joined=True)
QUIET = replace(OUTPUT, dropped={"output_full": 0}, errors={})


def test_json_has_the_keys_that_are_promised() -> None:
    """Scripts read these keys; they are never renamed."""
    found = STATS.as_dict()
    assert found == {
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
            }
        ],
        "rules": [
            {
                "id": "0123456789ab",
                "name": "feed-a",
                "rule": "239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001",
                "state": "flowing from 10.0.0.5",
                "matched": 10,
                "matched_bytes": 1000,
                "outputs": [
                    {
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
                    }
                ],
            }
        ],
    }


def test_stats_are_values() -> None:
    """Two readings of the same counts are equal whenever they were taken, and cannot change."""
    assert replace(STATS, taken_at_s=200.0) == STATS
    with pytest.raises(FrozenInstanceError):
        STATS.rules = ()  # type: ignore[misc]


def test_correct_counters_balance() -> None:
    """Nothing is said where every datagram is accounted for."""
    assert STATS.imbalances() == ()


def test_every_broken_balance_is_named() -> None:
    """A datagram that vanishes from the counters is found, and where."""
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
    """Rates divide by the time between the readings, not by an assumed interval."""
    more = replace(OUTPUT, dropped={"output_full": 5, "send_error": 1})
    rule = replace(RULE, matched=1010, matched_bytes=126_000, outputs=(more,))
    rate = replace(STATS, rules=(rule,), taken_at_s=102.0).rates_since(STATS)[RULE.id]
    assert (rate.matched_pps, rate.matched_bits_per_s, rate.lost_pps) == (500, 500_000, 2)


def test_a_rule_added_in_between_started_from_zero() -> None:
    """A rule that the earlier reading lacks still has a rate."""
    before = Stats(interfaces=(), rules=(), taken_at_s=95.0)
    assert STATS.rates_since(before)[RULE.id].matched_pps == 2


@pytest.mark.parametrize("matched", [4, 11])
def test_a_rule_whose_counts_began_anew_started_from_zero(matched: int) -> None:
    """A rule whose host name has another address is a new one under the old id."""
    fresh = replace(RULE, matched=matched, matched_bytes=400, outputs=(QUIET,))
    rate = replace(STATS, rules=(fresh,), taken_at_s=102.0).rates_since(STATS)[RULE.id]
    assert (rate.matched_pps, rate.matched_bits_per_s, rate.lost_pps) == (matched / 2, 1600, 0)


def test_no_rate_without_time_in_between() -> None:
    """Two readings at once divide by nothing."""
    assert STATS.rates_since(STATS)[RULE.id].matched_pps == 0


@pytest.mark.parametrize(
    ("sight", "state"),
    [
        (SIGHT, "joined, no frame seen on eth0"),
        (replace(SIGHT, joined=False), "bound, no frame seen on eth0"),
        (
            replace(SIGHT, group_seen=3, other_port=5002),
            "frames seen, none for port 5001 (239.1.1.1 arrives for port 5002)",
        ),
        (
            replace(SIGHT, group_seen=3, sources=("10.0.0.5",), other_source="10.0.0.9"),
            "frames for 239.1.1.1 seen, none from 10.0.0.5 (last from 10.0.0.9)",
        ),
        (
            replace(SIGHT, sources=("10.0.0.5", "10.0.0.6"), other_source="10.0.0.9", group_seen=1),
            "frames for 239.1.1.1 seen, none from 10.0.0.5 or 10.0.0.6 (last from 10.0.0.9)",
        ),
        # The group's other rule has a source list; this one has none, so its port is the matter.
        (
            replace(SIGHT, group_seen=3, other_source="10.0.0.9", other_port=5002),
            "frames seen, none for port 5001 (239.1.1.1 arrives for port 5002)",
        ),
        (replace(SIGHT, group_seen=3), "frames for 239.1.1.1 seen, none without a VLAN tag"),
        # What the engine knows of the interface goes before what was seen until then.
        (replace(SIGHT, trouble="paused: eth0 is down", matched=7), "paused: eth0 is down"),
        (replace(SIGHT, paused=True, matched=7), "disabled"),
        (replace(SIGHT, paused=True, trouble="paused: no"), "disabled; paused: no"),
        (replace(SIGHT, group_seen=3, vlan=7), "frames for 239.1.1.1 seen, none with VLAN tag 7"),
        (
            replace(SIGHT, matched=1, last_source="10.0.0.5", last_seen_age_ms=1999),
            "flowing from 10.0.0.5",
        ),
        (replace(SIGHT, matched=1), "flowing"),
        (
            replace(SIGHT, matched=1, last_source="10.0.0.5", last_seen_age_ms=12_345),
            "silent for 12 s, last from 10.0.0.5",
        ),
        (replace(SIGHT, matched=1, last_seen_age_ms=2_000), "silent for 2 s"),
    ],
)
def test_the_state_answers_the_first_question(sight: RuleSight, state: str) -> None:
    """Where did my datagram go: nothing came, the wrong thing came, it flows, it stopped."""
    assert rule_state(sight, [QUIET]) == state


def test_the_state_names_each_output_that_loses() -> None:
    """Outputs are counted from 1; only those with trouble are named, with the reasons."""
    full = replace(QUIET, dropped={"output_full": 2, "send_error": 1}, errors={"EPERM": 1})
    refused = replace(QUIET, refused=4)
    flowing = replace(SIGHT, matched=9, last_source="10.0.0.5", last_seen_age_ms=0)
    assert rule_state(flowing, [QUIET, full, refused]) == (
        "flowing from 10.0.0.5; output 2 lost 3: output_full, send_error (EPERM); "
        "output 3 was refused 4 times: nobody listened there, or no such host"
    )


def test_the_state_names_each_output_that_is_parked() -> None:
    """While nothing is sent the reason goes before what was lost by it."""
    parked = replace(OUTPUT, parked="eth1 is down")
    assert rule_state(SIGHT, [QUIET, parked]).endswith("; output 2 parked: eth1 is down")


def test_readings_come_back_from_json() -> None:
    """What `mcr relay --json` prints can be read again; what is wrong with it is named."""
    stats = Stats((INTERFACE,), (RULE,))
    assert Stats.from_dict(json.loads(json.dumps(stats.as_dict()))) == stats
    broken = stats.as_dict()
    broken["rules"][0]["outputs"][0]["sent"] = "many"
    with pytest.raises(ValueError, match=r"rules\[0\]\.outputs\[0\]\.sent is 'many', not a whole"):
        Stats.from_dict(broken)
