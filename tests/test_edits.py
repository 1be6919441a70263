"""Edits of rules: what they name, what they leave, and what they make of a rule's identity."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.edited_specs import edited
from tests.support.fake_host import HOST, refused, running

import mcr
from mcr.errors import Problem, RuleError
from mcr.rules.edit import RuleEdit
from mcr.rules.hostnames import HostResolver
from mcr.rules.layout import all_new, arranged, layout_between, missing_runs
from mcr.rules.ruleset import RuleSet

SOURCE = "239.1.1.1%eth0:5001"
OUTPUTS = [f"192.0.2.{number}:7000" for number in range(1, 6)]
GROUP = "239.2.0.1%eth1:6001"
RULE = f"{SOURCE},name=feed to {' '.join(OUTPUTS)} {GROUP}"


def edit(rule_set: RuleSet, **given: Any) -> Mapping[str, str]:  # noqa: ANN401 -- of `RuleEdit.of`
    """Edit the rule with this name; return what has changed."""
    rule_id = rule_set.find("feed")
    assert rule_id is not None
    plan = rule_set.plan_edit(HOST, rule_id, RuleEdit.of(**given), HostResolver())
    rule_set.commit(plan)
    return plan.changed


def problems(rule: str = RULE, **given: Any) -> list[Problem]:  # noqa: ANN401 -- of `RuleEdit.of`
    """The problems of an edit."""
    with pytest.raises(RuleError) as caught:
        RuleEdit.of(**given).apply(mcr.Rule.parse(rule))
    return list(caught.value.problems)


NUMBERS = st.integers(1, len(OUTPUTS) + 1)


@given(
    st.dictionaries(NUMBERS, st.integers(2, 9), max_size=4),
    st.sets(NUMBERS, max_size=4),
    st.lists(st.integers(10, 15), unique=True, max_size=3),
)
def test_an_edited_rule_is_the_rule_with_its_text(
    changed: Mapping[int, int], removed: set[int], added: Sequence[int]
) -> None:
    """It is resolved and indexed alike, and an engine makes the same of the edit; the id stays."""
    new = [f"192.0.2.{number}:7000" for number in added]
    changed = {number: ttl for number, ttl in changed.items() if number not in removed}
    if not (changed or removed or added) or (len(removed) == len(OUTPUTS) + 1 and not added):
        return
    rule_set = running(RULE)
    (before,) = rule_set.active
    plan = rule_set.plan_edit(
        HOST,
        before.id,
        RuleEdit.of(
            set_outputs={number: f"ttl={ttl}" for number, ttl in changed.items()},
            add_outputs=new,
            remove_outputs=list(removed),
        ),
        HostResolver(),
    )
    rule_set.commit(plan)
    (after,) = rule_set.active
    kept = enumerate((*OUTPUTS, GROUP), 1)
    outputs = [
        f"{text},ttl={changed[number]}" if number in changed else text
        for number, text in kept
        if number not in removed
    ]
    text = f"{SOURCE},name=feed to {' '.join(outputs + new)}"
    assert str(after.rule) == text
    (fresh,) = running(text).active
    assert (after.id, after.claims, after.specs) == (before.id, fresh.claims, fresh.specs)
    assert after.resolved.outputs == fresh.resolved.outputs
    (step,) = plan.steps
    spec = edited({before.id: json.loads(before.spec)}, json.loads(step.edit))
    assert spec == json.loads(after.spec)
    assert refused(rule_set, f"{SOURCE} to {(outputs + new)[-1]},ttl=77")


def test_outputs_are_named_by_number_or_text() -> None:
    """The text need not have the options, nor the interface while that is unambiguous."""
    rule = f"{SOURCE} to {GROUP},ttl=8 239.2.0.1%eth0:6001 [2001:db8::7]:7000,dscp=46"
    for ref, place in (
        (2, 1),
        ("1", 0),
        (GROUP, 0),
        (f"{GROUP},ttl=9", 0),
        ("239.2.0.1%eth0:6001", 1),
        ("[2001:db8::7]:7000", 2),
    ):
        after = RuleEdit.of(set_outputs={ref: "ttl=33"}).apply(mcr.Rule.parse(rule)).rule
        assert [output.ttl == 33 for output in after.outputs].index(True) == place
    assert problems(rule, remove_outputs=["239.2.0.1:6001"]) == [
        Problem(
            ("remove_output", "239.2.0.1:6001"),
            "is ambiguous: outputs 1 and 2 have this address and port; give a number",
        )
    ]


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({"set_outputs": {9: "ttl=2"}}, "set_output 9", "there is no output with this"),
        ({"remove_outputs": [0]}, "remove_output 0", "there is no output with this"),
        ({"remove_outputs": ["x"]}, "remove_output, x", "is neither a number nor an output"),
        ({"remove_outputs": ["192.0.2.9:1"]}, "remove_output", "the rule has no such output"),
        ({"remove_outputs": [1, OUTPUTS[0]]}, "remove_output", "output 1 is named twice"),
        ({"set_outputs": {1: "ttl=2", "1": "dscp=2"}}, "set_output 1", "is named twice"),
        ({"set_outputs": {1: "ttl=2"}, "remove_outputs": [1]}, "remove_output 1", "twice"),
        ({"set_outputs": {1: "ttl=999"}}, "set_output 1, ttl", "out of range"),
        ({"set_outputs": {1: {"ttl": 999}}}, "set_output 1, ttl", "out of range"),
        ({"set_outputs": {1: "tll=2"}}, "set_output 1, tll", "did you mean 'ttl'?"),
        ({"set_outputs": {1: {"port": 2}}}, "set_output 1, port", "says where copies go"),
        ({"options": "vlan=7"}, "vlan", "belongs to the input"),
        ({"options": "expect=9"}, "expect", "9"),
        ({"add_outputs": ["x"]}, "add_output 1", ""),
        ({"remove_outputs": [1, 2, 3, 4, 5, 6]}, "outputs", "remove the rule instead"),
        ({}, "", "the edit changes nothing"),
    ],
)
def test_a_wrong_edit_is_one_sentence(given: dict[str, Any], field: str, message: str) -> None:
    """With the field that is wrong."""
    (problem,) = problems(**given)
    assert problem.field.startswith(field)
    assert message in problem.message


def test_a_default_takes_an_option_back() -> None:
    """In text by its word, in values by None."""
    rule = mcr.Rule.parse(f"{SOURCE},name=feed,expect=2s to {GROUP},ttl=8,dscp=46,loop=off")
    for options, own in (
        ("ttl=default,dscp=default,loop=default", "name=default,expect=default"),
        ({"ttl": None, "dscp": None, "loop": None}, {"name": None, "expect": None}),
    ):
        after = RuleEdit.of(own, set_outputs={1: options}).apply(rule).rule
        assert str(after) == f"{SOURCE} to {GROUP}"
        assert (after.id, after.is_edited) == (rule.id, True)


def test_a_rule_is_known_by_its_text_after_an_edit() -> None:
    """The edited text is the same rule; the text before the edit has an id that is taken."""
    rule_set = running(RULE)
    (before,) = rule_set.rules
    assert edit(rule_set, remove_outputs=[1]) == {before.id: "replaced"}
    (after,) = rule_set.rules
    given = mcr.Rule.parse(str(after))
    assert (after.id, given.id != before.id, rule_set.find(given)) == (before.id, True, before.id)
    assert rule_set.find(given.id) == before.id
    (known,) = rule_set.identified([given])
    plan = rule_set.plan(HOST, remove=[before.id], add=[known])
    assert (plan.kept, plan.changed, plan.removed) == ((before.id,), {}, ())
    (problem,) = refused(rule_set, RULE.replace(",name=feed", ""))
    assert problem.message.startswith(f"has the id {before.id} of the running rule 'feed'")
    assert edit(rule_set, set_outputs={1: "ttl=64"}) == {before.id: "replaced"}
    assert edit(rule_set, set_outputs={1: "ttl=64"}) == {}


def test_another_name_is_no_change_for_the_engine() -> None:
    """Names stay unique."""
    rule_set = running(RULE, f"239.1.1.2%eth0:5001,name=other to {GROUP}")
    plan = rule_set.plan_edit(HOST, rule_set.rules[0].id, RuleEdit.of("name=fresh"), HostResolver())
    assert (len(plan.changed), plan.sent) == (1, ())
    label = f"running rule {rule_set.rules[1].id}, which receives 239.1.1.2%eth0:5001; choose"
    with pytest.raises(RuleError, match=f"name: 'other' is the name of the {label} another"):
        edit(rule_set, options="name=other")


@given(st.lists(st.integers(0, 30), unique=True), st.lists(st.integers(0, 30), unique=True))
def test_a_layout_has_every_output(before: list[int], after: list[int]) -> None:
    """Those of both rules in runs, the others by their own place."""
    if not before or not after:
        return
    rules = [
        mcr.Rule.parse(f"{SOURCE} to " + " ".join(f"192.0.2.1:{7000 + port}" for port in ports))
        for ports in (before, after)
    ]
    layout = layout_between(*rules)
    new = {place: [after[place]] for place in layout if isinstance(place, int)}
    assert arranged(layout, before, new) == tuple(after)
    assert {after[place] for place in new} == set(after) - set(before)
    gone = [before[place] for run in missing_runs(layout, len(before)) for place in run]
    assert set(gone) == set(before) - set(after)
    assert layout_between(rules[0], rules[0]) == (range(len(before)),)
    assert arranged(all_new(rules[1]), (), {at: [own] for at, own in enumerate(after)}) == (
        tuple(after)
    )
