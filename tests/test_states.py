"""The state of a rule as a sentence: the present, and past events with their age."""

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from mcr.stats.rule_state import (
    InputTrouble,
    MoreSpecificRule,
    OutputStatus,
    RuleStatus,
    StateCode,
    rule_state,
)

STATUS = RuleStatus(interface="eth0", group="239.1.1.1", ports="5001", joined=True)
DOWN = InputTrouble("waiting", "eth0 is down")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (STATUS, "joined, no frame seen on eth0"),
        (replace(STATUS, joined=False), "bound, no frame seen on eth0"),
        (
            replace(STATUS, group_seen=3, other_port=5002),
            "frames seen, none for port 5001 (239.1.1.1 arrives for port 5002)",
        ),
        (
            replace(STATUS, group_seen=3, sources=("10.0.0.5",), other_source="10.0.0.9"),
            "frames for 239.1.1.1 seen, none from 10.0.0.5 (last from 10.0.0.9)",
        ),
        (
            replace(
                STATUS, sources=("10.0.0.5", "10.0.0.6"), other_source="10.0.0.9", group_seen=1
            ),
            "frames for 239.1.1.1 seen, none from 10.0.0.5 or 10.0.0.6 (last from 10.0.0.9)",
        ),
        # The group's other rule has a source list; this one has none, so its port is the matter.
        (
            replace(STATUS, group_seen=3, other_source="10.0.0.9", other_port=5002),
            "frames seen, none for port 5001 (239.1.1.1 arrives for port 5002)",
        ),
        (replace(STATUS, group_seen=3), "frames for 239.1.1.1 seen, none without a VLAN tag"),
        # What the engine knows of the interface goes before what was seen until then.
        (replace(STATUS, trouble=DOWN, matched=7), "waiting: eth0 is down"),
        (replace(STATUS, enabled=False, matched=7), "disabled"),
        (replace(STATUS, enabled=False, trouble=DOWN), "disabled; waiting: eth0 is down"),
        (replace(STATUS, group_seen=3, vlan=7), "frames for 239.1.1.1 seen, none with VLAN tag 7"),
        (
            replace(STATUS, matched=1, last_source="10.0.0.5", last_seen_age_ms=1999),
            "flowing from 10.0.0.5",
        ),
        (replace(STATUS, matched=1), "flowing"),
        (
            replace(STATUS, matched=1, last_source="10.0.0.5", last_seen_age_ms=12_345),
            "silent for 12 s, last from 10.0.0.5",
        ),
        (replace(STATUS, matched=1, last_seen_age_ms=2_000), "silent for 2 s"),
    ],
)
def test_the_state_answers_the_first_question(status: RuleStatus, state: str) -> None:
    """Nothing arrives, something else arrives, it flows, or it stopped."""
    assert rule_state(status, [OutputStatus()]).sentence == state


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (
            replace(STATUS, sources=("10.0.0.5",), other_source="10.0.0.9"),
            "frames for 239.1.1.1 seen 70 s ago, none from 10.0.0.5 (last from 10.0.0.9)",
        ),
        (
            replace(STATUS, other_port=5002),
            "frames seen 70 s ago, none for port 5001 (239.1.1.1 arrived for port 5002)",
        ),
        (STATUS, "frames for 239.1.1.1 seen 70 s ago, none without a VLAN tag"),
        (replace(STATUS, vlan=7), "frames for 239.1.1.1 seen 70 s ago, none with VLAN tag 7"),
    ],
)
def test_unmatched_datagrams_have_an_age(status: RuleStatus, state: str) -> None:
    """So that past ones are not taken for present ones."""
    assert rule_state(replace(status, group_seen=3, group_seen_age_ms=70_999)).sentence == state


def test_the_state_names_outputs_with_recent_losses() -> None:
    """Outputs are counted from 1; the last reason is named."""
    full = OutputStatus(
        lost_reason="send_error", lost_errno="EPERM", lost_age_ms=4_999, refused_age_ms=1
    )
    refused = OutputStatus(refused_age_ms=0)
    flowing = replace(STATUS, matched=9, last_source="10.0.0.5", last_seen_age_ms=0)
    assert rule_state(flowing, [OutputStatus(), full, refused]).sentence == (
        "flowing from 10.0.0.5; output 2 lost copies in the last 5 s: send_error (EPERM); "
        "output 3 was refused in the last 5 s: no program listens there, or no such host"
    )


def test_the_state_omits_past_losses() -> None:
    """They stay in the counters."""
    flowing = replace(STATUS, matched=9, last_source="10.0.0.5", last_seen_age_ms=0)
    over = OutputStatus(lost_reason="output_full", lost_age_ms=5_000, refused_age_ms=5_000)
    assert rule_state(flowing, [over]).sentence == "flowing from 10.0.0.5"


def test_the_state_names_each_output_that_is_parked() -> None:
    """While it is parked, the reason precedes its losses."""
    parked = OutputStatus(parked="eth1 is down", lost_reason="no_carrier", lost_age_ms=0)
    state = rule_state(STATUS, [OutputStatus(), parked])
    assert state.sentence.endswith("; output 2 parked: eth1 is down")


@pytest.mark.parametrize(
    ("status", "other", "state"),
    [
        (
            STATUS,
            MoreSpecificRule("b0", "b", 0, True),
            "frames for 239.1.1.1 seen, matched by the more specific rule b",
        ),
        (
            STATUS,
            MoreSpecificRule("b0", "b", 70_000, True),
            "frames for 239.1.1.1 seen 70 s ago, matched by the more specific rule b",
        ),
        # What it has taken may not have been for this rule.
        (
            STATUS,
            MoreSpecificRule("b0", "b", 0, False),
            "joined, no frame seen on eth0 except those for the more specific rule b",
        ),
        (
            replace(STATUS, group_seen=3, group_seen_age_ms=0, other_port=5002),
            MoreSpecificRule("b0", "b", 0, False),
            "frames seen, none for port 5001 (239.1.1.1 arrives for port 5002)",
        ),
        (
            replace(STATUS, matched=1, last_source="10.0.0.5", last_seen_age_ms=60_000),
            MoreSpecificRule("b0", "b", 5, True),
            "silent for 60 s, last from 10.0.0.5; the more specific rule b has matched datagrams"
            " since",
        ),
        (
            replace(STATUS, matched=1, last_seen_age_ms=60_000),
            MoreSpecificRule("b0", "b", 5, False),
            "silent for 60 s",
        ),
        (
            replace(STATUS, matched=1, last_seen_age_ms=60_000),
            MoreSpecificRule("b0", "b", 70_000, True),
            "silent for 60 s",
        ),
    ],
)
def test_the_state_names_the_more_specific_rule(
    status: RuleStatus, other: MoreSpecificRule, state: str
) -> None:
    """The one that matched the rule's datagrams."""
    assert rule_state(replace(status, more_specific=other)).sentence == state


SEEN = replace(STATUS, matched=1, last_seen_age_ms=60_000)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (STATUS, "joined"),
        (replace(STATUS, group_seen=3, other_port=5002), "joined"),
        (replace(STATUS, matched=1, last_seen_age_ms=1_999), "flowing"),
        (SEEN, "silent"),
        (replace(STATUS, more_specific=MoreSpecificRule("b0", "b", 5, True)), "shadowed"),
        (replace(STATUS, more_specific=MoreSpecificRule("b0", "b", 5, False)), "joined"),
        (replace(SEEN, more_specific=MoreSpecificRule("b0", "b", 5, True)), "shadowed"),
        (replace(SEEN, more_specific=MoreSpecificRule("b0", "b", 70_000, True)), "silent"),
        (replace(SEEN, trouble=DOWN), "waiting"),
        (replace(STATUS, trouble=InputTrouble("unresolved", "no such host")), "unresolved"),
        (replace(SEEN, enabled=False, trouble=DOWN), "disabled"),
    ],
)
def test_the_code_is_the_first_that_applies(status: RuleStatus, code: StateCode) -> None:
    """So that no program has to read the sentence."""
    assert rule_state(status, [OutputStatus(parked="eth1 is down")]).code == code


def test_each_code_is_documented() -> None:
    """In the closed list of the page on observability."""
    page = (Path(__file__).parents[1] / "docs/observability.md").read_text()
    section = page.split("## The state of a rule", 1)[1].split("\n`facts`", 1)[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.M) == [*get_args(StateCode)]
