"""Edits of a rule while it relays: what they do not name loses nothing and keeps its counters."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import settle
from .daemons import serving
from .deaths import kill
from .egress import Kind
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import MarkedReceiver, Marks, PacedFlow, payloads

RATE_PPS = 4000
FIRST, SECOND, THIRD, FOURTH = (f"239.2.121.{end}%out0:6001" for end in (1, 2, 3, 4))
RULE = f"239.1.121.1%in0:5001,name=edited to {FIRST} {SECOND},dscp=46 {THIRD}"
REFUSED: list[tuple[Callable[[mcr.Relay | mcr.Client], object], str]] = [
    (lambda own: own.edit_rule("edited", set_outputs={4: "ttl=2"}), "set_output 4: there is no"),
    (
        lambda own: own.edit_rule("edited", set_outputs={1: "ttl=0"}),
        "set_output 1, ttl: 0 is out of",
    ),
    (
        lambda own: own.edit_rule("edited", add_outputs=[FOURTH, FIRST]),
        "output 5: has the same destination as an earlier output",
    ),
    (
        lambda own: own.edit_rule("edited", remove_outputs=[1, 2, 3]),
        "outputs: none would be left",
    ),
    (
        lambda own: own.edit_rule("edited", add_outputs=["239.1.121.1%in0:5001"]),
        "output 4: is the rule's own input",
    ),
]


@contextlib.contextmanager
def editable(lab: Lab, kind: Kind, ingress: Ingress) -> Iterator[mcr.Relay | mcr.Client]:
    """A relay of this process, or a client of a daemon, with the rule."""
    if kind == "library":
        with relaying(lab.relay, RULE, ingress=ingress) as relay:
            yield relay
        return
    with serving(lab.relay, "--ingress", ingress) as daemon, daemon.client() as client:
        client.add_rule(RULE)
        yield client


def test_an_edit_touches_nothing_else(lab: Lab, ingress: Ingress, kind: Kind) -> None:
    """Another TTL, an output less and one more, while a flow runs; refused edits change nothing."""
    with (
        lab.receive("239.2.121.1", 6001) as first,
        MarkedReceiver(lab.receiver, "d0", "239.2.121.2", 6001) as second,
        lab.receive("239.2.121.3", 6001) as third,
        lab.receive("239.2.121.4", 6001) as fourth,
        editable(lab, kind, ingress) as relay,
        lab.sender("239.1.121.1", 5001) as sender,
    ):
        rule_id = mcr.Rule.parse(RULE).id
        with PacedFlow(sender, RATE_PPS) as flow, lab.relay:
            flow.advance(100)
            for edit, why in REFUSED:
                with pytest.raises(mcr.RuleError, match=why):
                    edit(relay)
            before = [each.output for each in relay.stats().rules[0].outputs]
            relay.edit_rule("edited", {"name": "e2"}, set_outputs={SECOND: {"ttl": 16}})
            flow.advance(100)
            relay.edit_rule("e2", "expect=2s", add_outputs=[FOURTH], remove_outputs=[3])
            flow.advance(100)
        assert before == [FIRST, f"{SECOND},dscp=46", THIRD]
        count = len(flow.sent)
        stats = settle(relay, lambda stats: stats.rules[0].outputs[1].sent == count)
        (rule,) = stats.rules
        assert (rule.id, rule.name, rule.matched) == (rule_id, "e2", count)
        outputs = [each.output for each in rule.outputs]
        assert outputs == [FIRST, f"{SECOND},ttl=16,dscp=46", FOURTH]
        assert [each.wanted == count for each in rule.outputs] == [True, True, False]
        first.expect(flow.sent)
        second.expect(flow.sent)
        turn = second.marks.index(Marks(16, 46))
        assert 100 <= turn < count - 100
        assert second.marks == [Marks(1, 46)] * turn + [Marks(16, 46)] * (count - turn)
        gone, new = third.drain(), fourth.drain()
        assert gone == flow.sent[: len(gone)]
        assert new == flow.sent[-len(new) :]
        assert (len(new), rule.outputs[2].sent) == (count - len(gone), len(new))


def test_an_edit_outlives_processes(lab: Lab, tmp_path: Path) -> None:
    """The id and the counters, when workers or control die, and the id when the daemon restarts."""
    state = ("--state", str(tmp_path / "state"))
    rule_id = mcr.Rule.parse(RULE).id
    with (
        serving(lab.relay, *state) as daemon,
        daemon.client() as client,
        lab.sender("239.1.121.1", 5001) as sender,
    ):

        def relay_ten(*sent: int) -> None:
            sender.send(payloads(10))
            stats = settle(client, lambda stats: stats.rules[0].matched == sent[0])
            assert [each.sent for each in stats.rules[0].outputs] == [*sent]
            assert stats.rules[0].id == rule_id

        client.add_rule(RULE)
        relay_ten(10, 10, 10)
        client.edit_rule("edited", set_outputs={2: "ttl=9"}, remove_outputs=[3])
        relay_ten(20, 20)
        kill(*daemon.workers)
        wait_until(lambda: client.workers()[0].state == "running")
        relay_ten(30, 30)
        kill(daemon.control)
        client.edit_rule("edited", add_outputs=[FOURTH])
        relay_ten(40, 40, 10)
        assert client.replace_rules(client.rules()).kept == (rule_id,)
    with serving(lab.relay, *state) as daemon, daemon.client() as client:
        (rule,) = client.rules()
        text = f"239.1.121.1%in0:5001,name=edited to {FIRST} {SECOND},ttl=9,dscp=46 {FOURTH}"
        assert (rule.id, rule.rule) == (rule_id, text)
