"""What the network hears of memberships when rules change: nothing that costs a stream."""

import contextlib
from collections.abc import Iterator

import pytest

import mcr

from .checks import settle_sent
from .daemons import serving
from .lab import Lab
from .relays import Ingress, relaying
from .reports import Record, Reports
from .test_memberships import joined
from .traffic import payloads

FAMILIES = [("239.1.70.1", "10.1.0.2", "10.1.0.3"), ("ff15::70:1", "fd01::2", "fd01::3")]
Rules = mcr.Relay | mcr.Client


@contextlib.contextmanager
def either(lab: Lab, ingress: Ingress, *, daemon: bool, rules: list[str]) -> Iterator[Rules]:
    """The rules in a relay of this process, or in a daemon."""
    if daemon:
        with serving(lab.relay, "--ingress", ingress) as started, started.client() as client:
            client.add_rules(rules)
            yield client
    else:
        with relaying(lab.relay, *rules, ingress=ingress) as relay:
            yield relay


@pytest.mark.parametrize("daemon", [False, True], ids=["relay", "daemon"])
def test_a_rule_that_stays_is_not_left(lab: Lab, ingress: Ingress, *, daemon: bool) -> None:
    """When the rule for any source goes, the one with sources never leaves the group."""
    listed = [
        f"{first}+{second}@{group}%in0:5001 to 239.2.70.2%out0:6001"
        for group, first, second in FAMILIES
    ]
    others = [f"{group}%in0:5001,name={group} to 239.2.70.1%out0:6001" for group, _, _ in FAMILIES]
    sent = payloads(20)
    with (
        either(lab, ingress, daemon=daemon, rules=[*listed, *others]) as rules,
        lab.receive("239.2.70.2", 6001) as receiver,
        Reports(lab.source, "s0") as reports,
    ):
        for group, *sources in FAMILIES:
            rules.remove_rule(group)
            reports.wait_for(Record("to_in", group, frozenset(sources)))
            with lab.sender(group, 5001, source=(sources[0], 0)) as sender:
                sender.send(sent)
        receiver.expect(sent * 2)
        settle_sent(rules, len(sent), len(sent))
        for group, *sources in FAMILIES:
            assert not any(record.is_leave for record in reports.hear(group))
            assert {each for each in joined(lab.relay) if each[1] == group} == {
                ("in0", group),
                *(("in0", group, source) for source in sources),
            }
