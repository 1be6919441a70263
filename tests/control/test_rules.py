"""Rules from clients, in the rulebook, and in snapshots."""

import fcntl
import os
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fake_host import HOST
from tests.support.strategies import INTERFACES, KERNEL_INTERFACES, merging_rules, rules

from mcr._native import output_keys
from mcr.daemon.control.api.errors import RpcError
from mcr.daemon.control.log import default_levels
from mcr.daemon.control.rules import rulebook, snapshot
from mcr.daemon.control.rules.draft import RuleSetAside
from mcr.daemon.control.rules.entries import EnabledRule, read_entries
from mcr.daemon.control.rules.rulebook import Rulebook
from mcr.daemon.control.rules.snapshot import UnreadableError
from mcr.errors import ConflictError, RuleError
from mcr.rules import Rule
from mcr.rules.edit import RuleEdit
from mcr.rules.hostnames import HostName, HostResolver
from mcr.rules.objects import object_from_rule, text_or_object
from mcr.rules.spec import rule_spec

ONE = "239.1.1.1%eth0:5001,name=one to 239.2.0.1%eth1:6001"
TWO = "239.1.1.2%eth0:5001 to 239.2.0.2%eth1:6001"
THREE = "239.1.1.3%eth0:5001 to 239.2.0.3%eth1:6001"
NAMES = INTERFACES | KERNEL_INTERFACES
IDS = {text: Rule.parse(text).id for text in (ONE, TWO, THREE)}


@pytest.fixture(autouse=True)
def fake_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host of these tests."""
    monkeypatch.setattr(rulebook, "interfaces", lambda: HOST)


@given(rules(KERNEL_INTERFACES) | merging_rules(KERNEL_INTERFACES))
def test_objects_express_every_rule(rule: Rule) -> None:
    """Also those that text cannot express."""
    for form in (object_from_rule(rule), text_or_object(rule)):
        assert read_entries([form], enabled=True) == [EnabledRule(rule, True)]


@given(
    st.lists(st.tuples(rules(NAMES) | merging_rules(NAMES), st.booleans()), max_size=4),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
)
def test_a_snapshot_is_read_back(
    some: list[tuple[Rule, bool]], revision: int, sequence: int
) -> None:
    """Encoding the result again gives the same bytes."""
    entries = tuple(EnabledRule(*each) for each in some)
    lines = [RuleSetAside.of(entry, "").line for entry in entries]
    levels = replace(
        default_levels("error"), facilities={**default_levels().facilities, "rules": "debug"}
    )
    answers = {HostName("studio.example", 4): (ip_address("192.0.2.7"),)}
    whole = snapshot.read_all(snapshot.write(revision, sequence, levels, answers, lines))
    assert snapshot.read(whole, in_use=True) == snapshot.RuleSnapshot(
        revision, sequence, levels, answers, entries
    )


def test_the_snapshot_is_sealed() -> None:
    """So that the supervisor need not trust control."""
    memory = snapshot.write(1, 1, default_levels(), {}, [])
    seals = fcntl.fcntl(memory, fcntl.F_GET_SEALS)
    assert seals & (fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    with pytest.raises(PermissionError):
        os.write(memory, b"x")
    os.close(memory)


@given(st.binary(max_size=300))
def test_any_snapshot_is_read_or_refused(whole: bytes) -> None:
    """As a whole, or by one kind of error."""
    with pytest.raises(UnreadableError, match=r"^line 1"):
        snapshot.read(whole, in_use=True)


def test_active_rules_stay_as_resolved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At another start of the daemon rules are resolved again, as the host may be another."""
    late = "239.1.1.9%eth0:5001 to studio.example:7000"
    book = book_of(ONE, "10.0.0.1:7000,name=own to 239.2.0.9%eth1:6001", late)
    book.commit(book.enable(["own"], enabled=False))
    whole = snapshot.read_all(snapshot.write(book.revision, 1, default_levels(), {}, book.lines))
    bare = [replace(each, addresses=(), multicast=False) for each in HOST]
    monkeypatch.setattr(rulebook, "interfaces", lambda: bare)
    same, other = Rulebook("packet"), Rulebook("packet")
    restore(same, book.revision, snapshot.read(whole, in_use=True).entries)
    assert (same.revision, same.rules, same.aside) == (book.revision, book.rules, {})
    assert same.unfinished == book.unfinished
    assert same.find(["own"]) == book.find(["own"])
    restore(other, book.revision, snapshot.read(whole, in_use=False).entries)
    assert (tuple(other.aside), other.order) == (book.order, book.order)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"port":5001', '"port":"x"', "line 2, resolved: "),
        ('"id":"', '"id":"0', "line 2, resolved: belongs to another rule"),
        ('],"id":', '],"numbers":[2],"id":', "line 2, resolved: belongs to another rule"),
        ('],"id":', '],"numbers":[1,1],"id":', "line 2, resolved: belongs to another rule"),
    ],
)
def test_a_resolved_rule_must_match_its_text(before: str, after: str, message: str) -> None:
    """Otherwise the snapshot is refused."""
    (line,) = book_of(ONE).lines
    assert before.encode() in line
    line = line.replace(before.encode(), after.encode())
    whole = snapshot.read_all(snapshot.write(1, 1, default_levels(), {}, [line]))
    with pytest.raises(UnreadableError, match=f"^{message}"):
        snapshot.read(whole, in_use=True)
    assert snapshot.read(whole, in_use=False).entries == (EnabledRule(Rule.parse(ONE), True),)


def test_an_edited_rule_keeps_its_id_and_keys() -> None:
    """Also in the snapshot, and where a request has its new text."""
    book = book_of(ONE, TWO)
    both = ONE.replace(" to ", " to 192.0.2.7:7000 ")
    for edit in (RuleEdit.of(add_outputs=["192.0.2.7:7000"]), RuleEdit.of(remove_outputs=[1])):
        draft = book.edit("one", edit, HostResolver())
        assert (draft.changed, draft.added) == ({IDS[ONE]: "edited"}, ())
        book.commit(draft)
    record = book.rules[IDS[ONE]]
    edited = str(record.rule)
    assert edited == both.removesuffix(" 239.2.0.1%eth1:6001")
    assert (book.order, book.revision) == ((IDS[ONE], IDS[TWO]), 3)
    assert record.keys == output_keys(rule_spec(IDS[ONE], record.members, enabled=True))
    whole = snapshot.read_all(snapshot.write(3, 1, default_levels(), {}, book.lines))
    for in_use in (True, False):
        other = Rulebook("packet")
        restore(other, 3, snapshot.read(whole, in_use=in_use).entries)
        assert (other.order, other.rules) == (book.order, book.rules)
        kept = other.add([EnabledRule(Rule.parse(edited), True)], HostResolver())
        assert (kept.kept, kept.moves) == ((IDS[ONE],), False)
        entries = [EnabledRule(Rule.parse(text), True) for text in (edited, TWO)]
        assert not other.replace(entries, HostResolver()).moves
        with pytest.raises(RuleError, match=f"has the id {IDS[ONE]} of the running rule 'one'"):
            other.add([EnabledRule(Rule.parse(ONE.replace("one", "uno")), True)], HostResolver())
        back = other.replace([EnabledRule(Rule.parse(ONE), True)], HostResolver())
        assert (back.changed, back.removed) == ({IDS[ONE]: "replaced"}, (IDS[TWO],))


def test_a_configuration_leaves_what_was_edited_at_run_time() -> None:
    """Unless that is pruned; its new text in a configuration is the rule itself."""
    book = Rulebook("packet")
    wanted = [EnabledRule(Rule.parse(text), True) for text in (ONE, TWO)]
    book.commit(book.apply(wanted, HostResolver(), prune=False)[0])
    book.commit(book.edit("one", RuleEdit.of(set_outputs={1: "ttl=9"}), HostResolver()))
    record = book.rules[IDS[ONE]]
    assert (record.origin, record.rule.outputs[0].ttl) == ("run time", 9)
    draft, found = book.apply(wanted, HostResolver(), prune=False)
    assert (found.overruled, draft.moves) == ((IDS[ONE],), False)
    edited = [EnabledRule(Rule.parse(str(record.rule)), True), wanted[1]]
    draft, found = book.apply(edited, HostResolver(), prune=False)
    assert (found.adopted, found.changed, found.removed) == ((IDS[ONE],), (), ())
    draft, found = book.apply(wanted, HostResolver(), prune=True)
    assert (found.changed, draft.changed) == ((IDS[ONE],), {IDS[ONE]: "replaced"})
    book.commit(draft)
    assert str(book.rules[IDS[ONE]].rule) == ONE


def book_of(*texts: str) -> Rulebook:
    """A rulebook with these rules."""
    book = Rulebook("packet")
    book.commit(book.add(read_entries(texts, enabled=True), HostResolver()))
    return book


def restore(book: Rulebook, revision: int, entries: Sequence[EnabledRule]) -> None:
    """Restore a snapshot as a control process does."""
    book.commit(book.restore(revision, entries, {}))
    book.commit(replace(book.retry(book.order, HostResolver()), revision=revision))


def test_a_draft_changes_nothing() -> None:
    """Until it is committed."""
    book = book_of(ONE)
    draft = book.add(read_entries([TWO], enabled=False), HostResolver())
    assert (list(book.rules), book.revision) == ([IDS[ONE]], 1)
    book.commit(draft)
    assert (list(book.rules), book.revision) == ([IDS[ONE], IDS[TWO]], 2)
    assert [rule.enabled for rule in book.rules.values()] == [True, False]


def test_only_new_rules_are_sent() -> None:
    """Workers need neither names nor the rules that stay."""
    book = book_of(ONE, TWO)
    renamed = ONE.replace("name=one", "name=uno")
    draft = book.replace(read_entries([renamed, THREE, TWO], enabled=True), HostResolver())
    assert draft.sent == (IDS[THREE],)
    assert draft.changed == {IDS[ONE]: "replaced"}
    assert (draft.kept, draft.removed) == ((IDS[TWO],), ())
    before = book.rules[IDS[TWO]]
    book.commit(draft)
    assert list(book.rules) == [IDS[ONE], IDS[THREE], IDS[TWO]]
    assert book.rules[IDS[TWO]] is before
    assert book.find(["uno"]) == [IDS[ONE]]


def test_existing_rules_are_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an active rule that no longer fits this host, nor one that was set aside."""
    late = "239.1.1.9%tun0:5001,name=late to 239.2.0.9%eth1:6001"
    book = Rulebook("packet")
    restore(book, 7, read_entries([late, ONE], enabled=True))
    bare = [replace(each, addresses=(), multicast=False) for each in HOST]
    monkeypatch.setattr(rulebook, "interfaces", lambda: bare)
    own, other = late.replace("name=late", "name=later"), THREE.replace(" to", ",name=late to")
    draft = book.add(read_entries([own, ONE], enabled=True), HostResolver())
    assert (draft.kept, draft.added, draft.moves) == (book.order, (), False)
    assert draft.warnings == ("rule 1: already exists and keeps its name 'late'",)
    book.commit(draft)
    assert (book.revision, list(book.aside), list(book.rules)) == (7, [book.order[0]], [IDS[ONE]])
    with pytest.raises(RuleError, match="rule 2, name: 'late' is the name of a rule"):
        book.add(read_entries([own, other], enabled=True), HostResolver())


def test_another_order_is_a_change() -> None:
    """And the same set in the same order is none."""
    book = book_of(ONE, TWO)
    assert not book.replace(read_entries([ONE, TWO], enabled=True), HostResolver()).moves
    draft = book.replace(read_entries([TWO, ONE], enabled=True), HostResolver())
    assert (draft.moves, draft.sent, draft.revision) == (True, (), 2)


def test_unknown_rules() -> None:
    """The error lists all of them."""
    with pytest.raises(RpcError, match=r"'nobody' .and 1 more"):
        book_of(ONE).remove(["one", "nobody", "nothing"])


def test_another_revision_is_a_conflict() -> None:
    """None accepts any."""
    book = book_of(ONE)
    book.check(None)
    book.check(1)
    with pytest.raises(ConflictError):
        book.check(2)


def test_a_host_with_another_address_keeps_its_place() -> None:
    """Other rules are not affected, and the order stays."""
    known = HostResolver(known={HostName("a.example", 0): (ip_address("192.0.2.7"),)})
    named = "239.1.1.9%eth0:5001 to a.example:7001"
    book = Rulebook("packet")
    book.commit(book.add(read_entries([named, TWO], enabled=False), known))
    moved = {HostName("a.example", 0): (ip_address("192.0.2.8"),)}
    draft = book.follow(moved, HostResolver(known=moved))
    (follower,) = draft.sent
    assert draft.changed == {follower: "replaced"}
    book.commit(draft)
    assert list(book.rules) == [follower, IDS[TWO]]
    assert not book.rules[follower].enabled
    assert b"192.0.2.8" in book.rules[follower].members
    assert book.answers == moved


def test_a_rule_set_aside_keeps_its_place_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other rule can get the name; a rule that fits at last returns to its place."""
    late = [f"239.1.1.{at}%tun0:5001,name=late-{at} to 239.2.0.9%eth1:6001" for at in (7, 8, 9)]
    texts = [late[0], ONE, late[1], TWO, late[2]]
    ids = tuple(Rule.parse(text).id for text in texts)
    book = Rulebook("packet")
    restore(book, 7, read_entries(texts, enabled=True))
    lines = book.lines
    assert (book.order, list(book.aside)) == (ids, list(ids[::2]))
    for name, problem in ("late-8", "is the name of a rule"), (ids[0], "is the id of a rule"):
        with pytest.raises(RuleError, match=problem):
            book.add(
                read_entries([THREE.replace(":5001", f":5001,name={name}")], enabled=True),
                HostResolver(),
            )
    tun = next(each for each in HOST if each.name == "tun0")
    fits = [*(each for each in HOST if each is not tun), replace(tun, multicast=True)]
    monkeypatch.setattr(rulebook, "interfaces", lambda: fits)
    book.commit(book.retry([ids[2]], HostResolver()))
    assert (book.order, list(book.rules)) == (ids, list(ids[1:4]))
    assert (book.lines[:2], book.lines[3:]) == (lines[:2], lines[3:])
    book.commit(book.retry(book.aside, HostResolver()))
    assert list(book.rules) == list(ids)


def test_a_host_name_that_resolves_later() -> None:
    """Until then workers have an output without an address; the order stays."""
    late = "239.1.1.9%eth0:5001,name=late to studio.example:7000"
    book = Rulebook("packet")
    book.commit(book.add(read_entries([late, ONE], enabled=True), HostResolver()))
    (waiting,) = book.unfinished
    assert waiting.rule.name == "late"
    assert not book.finish(HostResolver()).moves
    known = {HostName("studio.example", 0): (ip_address("192.0.2.7"),)}
    draft = book.finish(HostResolver(known=known))
    assert draft.sent == (waiting.rule.id,)
    book.commit(draft)
    assert (book.unfinished, book.answers) == ((), known)
    assert book.order == (waiting.rule.id, IDS[ONE])


def test_a_rule_that_does_not_fit_is_set_aside() -> None:
    """It can be found, disabled and removed like others."""
    late = "239.1.1.9%tun0:5001,name=late to 239.2.0.9%eth1:6001"
    book = Rulebook("packet")
    restore(book, 7, read_entries([late, ONE], enabled=True))
    (waits,) = book.aside
    assert (book.revision, list(book.rules)) == (7, [IDS[ONE]])
    assert "tun0 has multicast disabled" in book.aside[waits].why
    assert len(book.lines) == 2
    draft = book.enable(["late"], enabled=False)
    assert (draft.sent, draft.changed) == ((), {waits: "disabled"})
    book.commit(draft)
    assert not book.retry([waits], HostResolver()).moves
    draft = book.remove(["late"])
    assert (draft.removed, draft.dropped) == ((), (waits,))
    assert book.replace(read_entries([ONE], enabled=True), HostResolver()).dropped == (waits,)
    book.commit(draft)
    assert len(book.lines) == 1
