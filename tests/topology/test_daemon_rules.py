"""The guarantees about a daemon's rules: revisions, dry runs, names, ids, disabled rules."""

import contextlib
import json
import subprocess
import threading
from pathlib import Path

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import DEADLINE_S, assert_balanced, settle
from .daemons import MCR, Daemon, serving, sockets
from .lab import Lab
from .relays import Ingress
from .test_memberships import joined
from .traffic import PacedFlow, payloads

KEPT = "239.1.73.1%in0:5001,name=kept to 239.2.73.1%out0:6001"
OTHER = "239.1.73.2%in0:5001,name=other to 239.2.73.2%out0:6001"
THIRD = "239.1.73.3%big:5001 to 239.2.73.3%out0:6001,ttl=7"
RATE_PPS = 8000
CLIENTS = 2
CHANGES = 40


def test_two_clients_never_change_what_they_have_not_seen(lab: Lab) -> None:
    """Each adds rules at the revision that it has read: no rule is lost."""
    with serving(lab.relay) as daemon:
        met: list[list[tuple[int, int]]] = [[] for _ in range(CLIENTS)]

        def grow(number: int) -> None:
            with daemon.client() as client:
                for at in range(CHANGES):
                    new = f"239.1.{80 + number}.{at + 1}%in0:5001 to 239.2.73.1%out0:6001"
                    while True:
                        listed = client.rules()
                        try:
                            client.replace_rules([*listed, new], expected_revision=listed.revision)
                            break
                        except mcr.ConflictError as conflict:
                            met[number].append((conflict.expected, conflict.actual))

        threads = [threading.Thread(target=grow, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with daemon.client() as client:
            listed = client.rules()
            assert (len(listed), listed.revision) == (CLIENTS * CHANGES, CLIENTS * CHANGES)
            assert any(met), "the two never met"
            assert all(expected < actual for each in met for expected, actual in each)
            with pytest.raises(mcr.ConflictError):
                client.remove_rule(listed.rules[0], expected_revision=listed.revision - 1)
            with pytest.raises(mcr.ConflictError):
                client.disable_rule(listed.rules[0], expected_revision=listed.revision + 1)
            assert client.rules() == listed


def test_a_dry_run_changes_nothing(lab: Lab, ingress: Ingress) -> None:
    """Neither rules nor sockets nor memberships; its errors are those of the change."""
    with serving(lab.relay, "--ingress", ingress) as daemon, daemon.client() as client:
        client.add_rules([KEPT, OTHER])
        before = (client.rules(), sockets(daemon), joined(lab.relay))
        added = client.add_rule(THIRD, dry_run=True)
        assert (added.dry_run, added.revision, len(added.added)) == (True, 1, 1)
        assert added.added[0].outputs[0].ttl == 7
        removed = client.remove_rule("kept", dry_run=True).removed
        assert removed == (mcr.Rule.parse(KEPT).id,)
        assert client.disable_rule("other", dry_run=True).changed == (mcr.Rule.parse(OTHER).id,)
        replaced = client.replace_rules([KEPT, THIRD], dry_run=True)
        assert len(replaced.added) == len(replaced.removed) == len(replaced.kept) == 1
        for wrong in WRONG:
            texts = [refusal(client, wrong, dry_run=dry_run) for dry_run in (True, False)]
            assert texts[0] == texts[1] != ""
        assert (client.rules(), sockets(daemon), joined(lab.relay)) == before
        assert client.add_rule(THIRD).revision == 2


WRONG = [
    "239.1.73.4%in0:5001,name=kept to 239.2.73.4%out0:6001",
    "239.1.73.4%in0:5001 to 239.1.73.4%in0:5001",
    "239.1.73.4%in0:0 to 239.2.73.4%out0:6001",
]


def refusal(client: mcr.Client, rule: str, *, dry_run: bool) -> str:
    """The reason why a rule is not added."""
    try:
        client.add_rule(rule, dry_run=dry_run)
    except mcr.McrError as error:
        return str(error)
    return ""


def test_a_new_rule_says_at_once_what_it_waits_for(lab: Lab, ingress: Ingress) -> None:
    """In the result of the change, in the list, and as an event after that of the change."""
    rule = mcr.Rule.parse("239.1.73.8%later:5001 to 239.2.73.8%out0:6001")
    with (
        serving(lab.relay, "--ingress", ingress, "--workers", "2") as daemon,
        daemon.client() as client,
        client.events(["rule"]) as events,
    ):
        (added,) = client.add_rule(rule).added
        assert added.state == client.rule(rule).state == client.stats().rules[0].state
        assert added.state == "unresolved: there is no interface later"
        client.disable_rule(rule)
        client.enable_rule(rule)
        lab.relay.ip("link", "add", "later", "up", "type", "veth", "peer", "name", "later2")
        try:
            lab.relay.set_up("later2", up=True)
            told = [next_event(events) for _ in range(5)]
            assert told == ["added", "waiting", "disabled", "enabled", "resumed"]
            wait_until(lambda: client.rule(rule).state.startswith("joined"))
        finally:
            lab.relay.ip("link", "del", "later")
        assert next_event(events) == "waiting"
        client.remove_rule(rule)
        assert next_event(events) == "removed"
        assert events.read(0.5) is None


def next_event(events: mcr.EventStream) -> str | None:
    """The next event, if there is one."""
    event = events.read(DEADLINE_S)
    return None if event is None else event.event


def test_names_are_unique_also_among_disabled_rules(lab: Lab) -> None:
    """A name can be used again once its rule is removed."""
    other = "239.1.73.9%in0:5001,name=kept to 239.2.73.9%out0:6001"
    with serving(lab.relay) as daemon, daemon.client() as client:
        client.add_rule(KEPT, enabled=False)
        for enabled in (True, False):
            with pytest.raises(mcr.RuleError, match="kept"):
                client.add_rule(other, enabled=enabled)
        client.remove_rule("kept")
        assert client.add_rule(other).revision == 3
        assert client.rule("kept").rule == other
        swapped = client.replace_rules([KEPT])
        assert (len(swapped.added), len(swapped.removed)) == (1, 1)


def test_rule_list_restores_any_interface_name(lab: Lab) -> None:
    """By `rule list --json | rule replace --file -`, and by RuleInfo values."""
    odd = "we,ird+0"  # no rule text can hold it
    lab.relay.ip("link", "add", odd, "up", "type", "veth", "peer", "name", "odd2")
    rules = [
        mcr.Rule(
            mcr.Input("239.1.73.7", 5001, interface=odd, sources=["10.1.0.9"]),
            [mcr.Output("239.2.73.7", 6001, interface="out0", ttl=5), mcr.Output("10.2.0.2", 7000)],
            name="odd",
        ),
        mcr.Rule.parse(KEPT),
    ]
    try:
        with serving(lab.relay) as daemon, daemon.client() as client:
            client.add_rules(rules)
            client.disable_rule("odd")
            assert [rule.object is None for rule in client.rules()] == [False, True]
            listed = command(daemon, "list", "--json")
            replaced = json.loads(command(daemon, "replace", "--file", "-", "--json", given=listed))
            assert replaced["kept"] == [rule.id for rule in rules]
            kept = client.replace_rules(client.rules())
            assert (kept.kept, kept.revision) == (tuple(rule.id for rule in rules), 2)
            client.replace_rules([])
            command(daemon, "replace", "--file", "-", given=listed)
            assert [(rule.id, rule.enabled) for rule in client.rules()] == [
                (rules[0].id, False),
                (rules[1].id, True),
            ]
    finally:
        lab.relay.ip("link", "del", odd)


def command(daemon: Daemon, *arguments: str, given: str = "") -> str:
    """The output of a command about rules."""
    whole = [MCR, "rule", *arguments, "--socket", str(daemon.socket)]
    done = subprocess.run(whole, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ids_order_and_revision_outlive_the_daemon(lab: Lab, tmp_path: Path) -> None:
    """The next daemon with the state file has the same rules, ids, names and revision."""
    state = tmp_path / "state"
    with serving(lab.relay, "--state", str(state)) as daemon:
        with daemon.client() as client:
            client.add_rules([KEPT, THIRD, OTHER])
            client.disable_rule("other")
            client.remove_rule(mcr.Rule.parse(THIRD))
            client.add_rule(THIRD)
            before = identity_of(client)
        assert daemon.end() == 0
    with serving(lab.relay, "--state", str(state)) as daemon, daemon.client() as client:
        assert identity_of(client) == before == (before[0], 4)
        assert [rule.id for rule in client.rules()] == [
            mcr.Rule.parse(text).id for text in (KEPT, OTHER, THIRD)
        ]
        sent = payloads(20)
        with lab.receive("239.2.73.1", 6001) as receiver, lab.sender("239.1.73.1", 5001) as sender:
            sender.send(sent)
            receiver.expect(sent)
        assert client.enable_rule("other").revision == 5


def identity_of(client: mcr.Client) -> tuple[list[tuple[str, str | None, str, bool]], int]:
    """The rules without their states, and their revision."""
    listed = client.rules()
    return [(rule.id, rule.name, rule.rule, rule.enabled) for rule in listed], listed.revision


def test_a_disabled_rule_counts_and_costs_others_nothing(lab: Lab, ingress: Ingress) -> None:
    """Its datagrams count as `disabled`; other flows, and a shared one, lose nothing."""
    sharing = "239.1.73.2%in0:5001 to 239.2.73.4%out1:6001"
    with (
        contextlib.ExitStack() as stack,
        serving(lab.relay, "--ingress", ingress) as daemon,
        daemon.client() as client,
    ):
        client.add_rules([KEPT, OTHER])
        receivers = [
            stack.enter_context(lab.receive(group, 6001, interface))
            for group, interface in (("239.2.73.1", "d0"), ("239.2.73.2", "d0"))
        ]
        steady = stack.enter_context(lab.sender("239.1.73.1", 5001))
        switched = stack.enter_context(lab.sender("239.1.73.2", 5001))
        sent = payloads(60)
        with PacedFlow(steady, RATE_PPS) as flow:
            switched.send(sent[:20])
            receivers[1].expect(sent[:20])
            client.disable_rule("other")
            assert client.rule("other").state == "disabled"
            switched.send(sent[20:40])
            wait_until(lambda: disabled(client) == 20)
            client.enable_rule("other")
            switched.send(sent[40:])
            receivers[1].expect(sent[:20] + sent[40:])
            for _ in range(50):
                client.disable_rule("other")
                flow.advance(10)
                client.enable_rule("other")
        receivers[0].expect(flow.sent)
        stats = settle(client, lambda stats: stats.rules[0].matched == len(flow.sent))
        assert (stats.rules[1].matched, stats.rules[1].outputs[0].sent) == (40, 40)
        assert disabled(client) == 20
        shares(lab, daemon, client, sharing)


def shares(lab: Lab, daemon: Daemon, client: mcr.Client, sharing: str) -> None:
    """Datagrams that another rule matches do not count as disabled."""
    client.disable_rule("other")
    client.add_rule(sharing)
    before, sent = disabled(client), payloads(30)
    with (
        lab.receive("239.2.73.4", 6001, "d1") as receiver,
        lab.sender("239.1.73.2", 5001) as sender,
    ):
        sender.send(sent)
        receiver.expect(sent)
    stats = settle(client, lambda stats: stats.rules[2].outputs[0].sent == len(sent))
    assert_balanced(stats)
    assert disabled(client) == before
    assert [worker.deaths for worker in client.workers()] == [0]
    assert daemon.process.poll() is None


def disabled(client: mcr.Client) -> int:
    """The datagrams dropped as `disabled`."""
    return client.stats().totals.dropped["disabled"]
