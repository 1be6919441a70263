"""The sentence of a rule: what happens now, and what has ended with its age."""

from dataclasses import replace

import pytest

from mcr.stats.rule_state import OutputStatus, RuleStatus, Taker, rule_state

SIGHT = RuleStatus(interface="eth0", group="239.1.1.1", ports="5001", joined=True)


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
        (replace(SIGHT, trouble="waiting: eth0 is down", matched=7), "waiting: eth0 is down"),
        (replace(SIGHT, enabled=False, matched=7), "disabled"),
        (replace(SIGHT, enabled=False, trouble="waiting: no"), "disabled; waiting: no"),
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
def test_the_state_answers_the_first_question(sight: RuleStatus, state: str) -> None:
    """Where did my datagram go: nothing came, the wrong thing came, it flows, it stopped."""
    assert rule_state(sight, [OutputStatus()]) == state


@pytest.mark.parametrize(
    ("sight", "state"),
    [
        (
            replace(SIGHT, sources=("10.0.0.5",), other_source="10.0.0.9"),
            "frames for 239.1.1.1 seen 70 s ago, none from 10.0.0.5 (last from 10.0.0.9)",
        ),
        (
            replace(SIGHT, other_port=5002),
            "frames seen 70 s ago, none for port 5001 (239.1.1.1 arrived for port 5002)",
        ),
        (SIGHT, "frames for 239.1.1.1 seen 70 s ago, none without a VLAN tag"),
        (replace(SIGHT, vlan=7), "frames for 239.1.1.1 seen 70 s ago, none with VLAN tag 7"),
    ],
)
def test_what_came_astray_and_has_stopped_is_told_with_its_age(
    sight: RuleStatus, state: str
) -> None:
    """What nobody sends any more is not told as if it came now."""
    assert rule_state(replace(sight, group_seen=3, group_seen_age_ms=70_999)) == state


def test_the_state_names_each_output_that_lost_something_just_now() -> None:
    """Outputs are counted from 1; only those with trouble are named, with the last reason."""
    full = OutputStatus(lost_reason="send_error (EPERM)", lost_age_ms=4_999, refused_age_ms=1)
    refused = OutputStatus(refused_age_ms=0)
    flowing = replace(SIGHT, matched=9, last_source="10.0.0.5", last_seen_age_ms=0)
    assert rule_state(flowing, [OutputStatus(), full, refused]) == (
        "flowing from 10.0.0.5; output 2 lost copies in the last 5 s: send_error (EPERM); "
        "output 3 was refused in the last 5 s: nobody listens there, or no such host"
    )


def test_the_state_forgets_what_is_over() -> None:
    """It stays in the counters."""
    flowing = replace(SIGHT, matched=9, last_source="10.0.0.5", last_seen_age_ms=0)
    over = OutputStatus(lost_reason="output_full", lost_age_ms=5_000, refused_age_ms=5_000)
    assert rule_state(flowing, [over]) == "flowing from 10.0.0.5"


def test_the_state_names_each_output_that_is_parked() -> None:
    """While nothing is sent the reason goes before what was lost by it."""
    parked = OutputStatus(parked="eth1 is down", lost_reason="no_carrier", lost_age_ms=0)
    assert rule_state(SIGHT, [OutputStatus(), parked]).endswith("; output 2 parked: eth1 is down")


@pytest.mark.parametrize(
    ("sight", "taker", "state"),
    [
        (
            SIGHT,
            Taker("b", 0, True),
            "frames for 239.1.1.1 seen, taken by the more specific rule b",
        ),
        (
            SIGHT,
            Taker("b", 70_000, True),
            "frames for 239.1.1.1 seen 70 s ago, taken by the more specific rule b",
        ),
        # What it has taken may not have been for this rule.
        (
            SIGHT,
            Taker("b", 0, False),
            "joined, no frame seen on eth0 but those of the more specific rule b",
        ),
        (
            replace(SIGHT, group_seen=3, group_seen_age_ms=0, other_port=5002),
            Taker("b", 0, False),
            "frames seen, none for port 5001 (239.1.1.1 arrives for port 5002)",
        ),
        (
            replace(SIGHT, matched=1, last_source="10.0.0.5", last_seen_age_ms=60_000),
            Taker("b", 5, True),
            "silent for 60 s, last from 10.0.0.5; the more specific rule b has what came since",
        ),
        (
            replace(SIGHT, matched=1, last_seen_age_ms=60_000),
            Taker("b", 5, False),
            "silent for 60 s",
        ),
        (
            replace(SIGHT, matched=1, last_seen_age_ms=60_000),
            Taker("b", 70_000, True),
            "silent for 60 s",
        ),
    ],
)
def test_the_state_names_the_rule_that_has_its_datagrams(
    sight: RuleStatus, taker: Taker, state: str
) -> None:
    """Where did my datagram go: to a more specific rule."""
    assert rule_state(replace(sight, taker=taker)) == state
