"""Conflicts between rules: duplicates, names and loops, and changes of running rules."""

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support.fake_host import (
    BACK,
    ETH0,
    ETH1,
    HOST,
    PLAIN,
    FakeInterface,
    addresses,
    check,
    problems,
    refused,
    running,
)

from mcr.errors import Problem, RuleError
from mcr.rules import Rule
from mcr.rules.ruleset import RuleSet


@pytest.mark.parametrize(
    ("rules", "field", "message"),
    [
        ((PLAIN, PLAIN), "rule 2", "is the same as rule 1"),
        (
            (PLAIN, PLAIN.replace(":5001", ":5001,name=a")),
            "rule 2",
            "is the same as rule 1",
        ),
        (
            (PLAIN, PLAIN + ",ttl=9"),
            "rule 2, output 1",
            "rule 1 already sends the same input there",
        ),
        ((PLAIN, PLAIN + " 192.0.2.7:1"), "rule 2, output 1", "would arrive twice"),
        (
            (
                "10.9.9.1+10.9.9.2@" + PLAIN,
                "10.9.9.2+10.9.9.3@" + PLAIN,
            ),
            "rule 2, output 1",
            "would arrive twice",
        ),
        (
            (
                "239.1.1.1%eth0:1,name=a to 192.0.2.7:1",
                "239.1.1.2%eth0:1,name=a to 192.0.2.7:1",
            ),
            "rule 2, name",
            "'a' is the name of rule 1; choose another",
        ),
        ((PLAIN, BACK), "rule 1, output 1", "makes a loop: its copies come back through rule 2"),
        (
            (
                PLAIN,
                "239.2.0.1%eth1:6001 to 192.0.2.7:1 239.3.0.1%eth0:1",
                "239.3.0.1%eth0:1 to 239.1.1.1%eth0:5001",
            ),
            "rule 1, output 1",
            "through rule 2, rule 3",
        ),
        (
            ("239.1.1.1%eth0:1 to 10.0.1.1:7", "10.0.1.1:7 to 239.1.1.1%eth0:1"),
            "rule 1, output 1",
            "through rule 2",
        ),
        (
            ("239.1.1.1%eth0:1 to 127.0.0.9:7", "127.0.0.9:7 to 239.1.1.1%eth0:1"),
            "rule 1, output 1",
            "through rule 2",
        ),
        (
            ("10.0.0.1@" + PLAIN, "10.0.1.1@" + BACK),
            "rule 1, output 1",
            "makes a loop",
        ),
        (
            ("10.9.9.1@" + PLAIN + ",source=keep", "10.9.9.1@" + BACK + ",source=keep"),
            "rule 1, output 1",
            "makes a loop",
        ),
        (
            (PLAIN + ",source=keep", "10.9.9.1@" + BACK + ",source=keep"),
            "rule 1, output 1",
            "makes a loop",
        ),
    ],
)
def test_conflicting_rules_are_refused(rules: tuple[str, ...], field: str, message: str) -> None:
    """For duplicates and loops; the message names the other rule."""
    (problem,) = problems(*rules, ingress="udp")
    assert problem.field == field
    assert message in problem.message


@pytest.mark.parametrize(
    "rules",
    [
        (PLAIN, "239.1.1.1%eth0:5001 to 239.2.0.2%eth1:6001"),
        (PLAIN, "239.1.1.2%eth0:5001 to 239.2.0.1%eth1:6001"),
        (PLAIN, "10.9.9.9@" + PLAIN),
        (PLAIN, "239.1.1.1%eth0:5001,vlan=7 to 239.2.0.1%eth1:6001"),
        (PLAIN, "239.2.0.1%eth0:6001 to 239.1.1.1%eth1:5001"),
        (PLAIN, "239.2.0.1%eth1:6002 to 239.1.1.1%eth0:5001"),
        ("10.9.9.1@" + PLAIN, "10.9.9.2@" + BACK),
        ("10.0.0.1@" + PLAIN + ",source=10.0.0.1", "10.0.1.1@" + BACK),
        ("10.9.9.1@" + PLAIN + ",source=keep", "10.0.1.1@" + BACK),
        (PLAIN, "239.2.0.1%eth1:6001,vlan=7 to 239.1.1.1%eth0:5001"),
        ("239.1.1.1%eth0:1,vlan=7 to 239.1.1.1%eth0:1",),
        ("239.1.1.1%eth0:1 to 192.0.2.7:1", "239.1.1.2%eth0:1 to 192.0.2.7:1"),
    ],
)
def test_similar_rules_are_accepted(rules: tuple[str, ...]) -> None:
    """Rules that differ where it matters; senders that are not this host make no loop."""
    assert len(check(*rules).rules) == len(rules)


def test_a_plan_changes_nothing_until_it_is_committed() -> None:
    """Planning is a dry run."""
    rule_set = running(PLAIN)
    plan = rule_set.plan(
        HOST, remove=[rule_set.rules[0].id], add=["239.1.1.2%eth0:1 to 192.0.2.7:1"]
    )
    assert [str(rule) for rule in rule_set.rules] == [PLAIN]
    rule_set.commit(plan)
    assert rule_set.rules == tuple(step.after.rule for step in plan.steps)
    assert len(rule_set) == 1
    assert plan.added[0] in rule_set
    assert plan.removed[0] not in rule_set
    assert len(plan.resolved) == 1


def test_an_outdated_plan_is_refused() -> None:
    """Of two changes planned at the same revision, one can be made."""
    rule_set = running()
    plans = [rule_set.plan(HOST, add=[PLAIN]), rule_set.plan(HOST, add=[BACK])]
    rule_set.commit(plans[0])
    with pytest.raises(ValueError, match="make a new plan"):
        rule_set.commit(plans[1])
    assert [str(rule) for rule in rule_set.rules] == [PLAIN]


def test_added_rules_are_checked_against_running_ones() -> None:
    """For duplicates, names and loops."""
    rule_set = running("239.1.1.1%eth0:5001,name=a to 239.2.0.1%eth1:6001")
    (same,) = refused(rule_set, PLAIN)
    assert same == Problem(("rule", 1), "is the same as the running rule 'a'; omit one")
    (twice,) = refused(rule_set, PLAIN + ",ttl=9")
    assert "the running rule 'a' already sends" in twice.message
    (name,) = refused(rule_set, "239.1.1.9%eth0:1,name=a to 192.0.2.7:1")
    assert name.field == "rule 1, name"
    (loop,) = refused(rule_set, BACK)
    assert loop.field == "rule 1, output 1"
    assert "through the running rule 'a'" in loop.message


@pytest.mark.parametrize(
    ("again", "problem"),
    [
        ([PLAIN, PLAIN], Problem(("rule", 2), "is the same as rule 1; omit one")),
        (
            [PLAIN.replace(" to", ",name=b to")],
            Problem(
                ("rule", 1, "name"),
                "'b' is the name of the running rule 6219b36f8382, which receives"
                " 239.1.1.9%eth0:1; choose another",
            ),
        ),
        (
            [PLAIN.replace(" to", ",name=c to"), "239.1.1.8%eth0:1,name=c to 192.0.2.7:1"],
            Problem(("rule", 2, "name"), "'c' is the name of rule 1; choose another"),
        ),
    ],
)
def test_a_kept_rule_stays_as_it_is(again: list[str], problem: Problem) -> None:
    """If it is added again, only its name is checked: it must not be another rule's."""
    rule_set = running("239.1.1.1%eth0:5001,name=a to 239.2.0.1%eth1:6001")
    keep = [rule.id for rule in rule_set.rules]
    other = "239.1.1.9%eth0:1,name=b to 192.0.2.7:1"
    plan = rule_set.plan(HOST, add=[PLAIN, other], keep=keep)
    assert [str(step.after.rule) for step in plan.steps] == [other]
    rule_set.commit(plan)
    assert [rule.name for rule in rule_set.rules] == ["a", "b"]
    with pytest.raises(RuleError) as caught:
        rule_set.plan(HOST, add=again, keep=keep)
    assert [*caught.value.problems] == [problem]


def test_removed_rules_do_not_conflict_with_added_ones() -> None:
    """A rule can be replaced by an equal one, its reverse, or one with its name."""
    for successor in (PLAIN, PLAIN + ",ttl=9", BACK, PLAIN.replace(":5001", ":5001,name=a")):
        rule_set = running(PLAIN.replace(":5001", ":5001,name=a"))
        plan = rule_set.plan(HOST, remove=[rule_set.rules[0].id], add=[successor])
        rule_set.commit(plan)
        assert [str(rule) for rule in rule_set.rules] == [successor]


def test_a_rule_whose_address_was_removed_stays() -> None:
    """Even if it is added again, so that its sockets and counters stay."""
    (rule,) = (rule_set := running("10.0.0.1:7000 to 239.2.0.1%eth1:6001")).rules
    before = rule_set.plan(HOST, remove=[rule.id], add=[rule]).resolved
    without = [replace(each, addresses=addresses("10.0.9.9")) for each in HOST]
    plan = rule_set.plan(without, remove=[rule.id], add=[rule])
    assert plan.resolved == before
    assert "10.0.0.1 is neither multicast nor an address" in plan.warnings[0]
    (new,) = RuleSet("udp").plan(without, add=[rule]).resolved
    assert (new.input.interface, new.input.is_known) == ("", False)


def test_removing_leaves_no_trace() -> None:
    """All that the rule occupied can be used again."""
    rule_set = running(PLAIN, "239.1.1.1%eth0:5001,name=a to 192.0.2.7:1")
    for rule in rule_set.rules:
        rule_set.commit(rule_set.plan(HOST, remove=[rule.id]))
    assert rule_set.rules == ()
    indexes = rule_set._indexes
    assert not [*indexes.claims, *indexes.listeners, *indexes._devices]


def test_removing_an_unknown_rule_is_refused() -> None:
    """An id that no rule has is named."""
    (problem,) = refused(running(PLAIN), remove=("0123456789ab",))
    assert problem == Problem("remove", "there is no running rule with the id '0123456789ab'")


def calls_of(work: Callable[[], object]) -> int:
    """The number of Python functions called: a cost that does not depend on the load."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def test_a_change_costs_work_for_itself_only() -> None:
    """Adding a rule to 3000 others costs as much as adding it to ten."""
    costs = []
    for count in (10, 3000):
        rules = [f"239.{n >> 8}.{n & 255}.1%eth0:5001 to 192.0.2.7:{n + 1}" for n in range(count)]
        rule_set = running(*rules)
        last = rule_set.rules[-1]

        def change(rule_set: RuleSet = rule_set, last: Rule = last) -> None:
            rule_set.commit(rule_set.plan(HOST, remove=[last.id], add=[PLAIN]))

        costs.append(calls_of(change))
    assert costs[1] < 1.1 * costs[0]  # a hash may collide


def test_many_rules_around_one_group_stay_cheap() -> None:
    """Twice as many rules on either side of a group are not four times the work."""
    costs = []
    for count in (200, 400):
        rules = [f"239.1.{n >> 8}.{n & 255}%eth0:1 to 239.99.9.9%eth0:1" for n in range(count)]
        rules += [f"239.99.9.9%eth0:1 to 192.0.2.7:{n + 1}" for n in range(count)]
        costs.append(calls_of(lambda rules=rules: check(*rules)))  # type: ignore[misc]
    assert costs[1] < 2.1 * costs[0]


def test_rules_are_checked_by_current_interface_names() -> None:
    """Even if a name appeared after its rule, or moved to another interface."""
    rules = RuleSet("packet")
    first, twin = PLAIN.replace("eth0", "feed"), PLAIN
    narrow = "10.0.0.9@239.1.1.1%eth0:5001 to 192.0.2.7:1"
    plan = rules.plan(HOST, add=[first])
    rules.commit(plan)
    feed = plan.resolved[0].input

    def named(*interfaces: FakeInterface) -> list[FakeInterface]:
        return [replace(each, altnames=("feed",)) if each in interfaces else each for each in HOST]

    with pytest.raises(RuleError, match="would arrive twice"):
        rules.plan(named(ETH0), add=[twin])
    plan = rules.plan(named(ETH0), add=[narrow])
    assert any("gets none of the datagrams" in each for each in plan.warnings), plan.warnings
    rules.commit(plan)
    assert list(rules.before(feed)) == [Rule.parse(narrow).id]
    # Whether or not the name is another's by now, each rule can go, and none leaves a trace.
    rules.commit(rules.plan(named(ETH1), add=[twin]))
    assert list(rules.before(feed)) == []
    rules.commit(rules.plan(named(ETH0), remove=[Rule.parse(first).id]))
    rules.commit(rules.plan(HOST, remove=[rule.id for rule in rules]))
    assert len(rules.plan(named(ETH0), add=[first, narrow]).added) == 2


def test_no_name_is_the_id_of_another_rule() -> None:
    """In either order, in one change or in two: the name would be ambiguous."""
    rule_id = Rule.parse(PLAIN).id
    namesake = f"239.1.1.9%eth0:5001,name={rule_id} to 239.2.0.9%eth1:6001"
    for first, second, problem in (
        (PLAIN, namesake, f"name: '{rule_id}' is the id of"),
        (namesake, PLAIN, f"has the id '{rule_id}', which is the name of"),
    ):
        with pytest.raises(RuleError, match=problem):
            RuleSet("packet").plan(HOST, add=[first, second])
        rules = RuleSet("packet")
        rules.commit(rules.plan(HOST, add=[first]))
        with pytest.raises(RuleError, match=problem):
            rules.plan(HOST, add=[second])
        plan = rules.plan(HOST, remove=[rule.id for rule in rules], add=[second])
        assert len(plan.added) == 1
