"""Any sequence of changes and kills, against a model of rules, revision and relaying."""

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.support.deadline import wait_until

import mcr

from .checks import assert_balanced, settle
from .daemons import Daemon, serving
from .lab import Lab
from .relays import Ingress
from .traffic import Receiver, Sender

COUNT = 5
WORKERS = 2
TEXTS = [
    f"239.1.99.{n}%in0:5001,name=r{n} to 239.2.99.{n}%out0:6001 239.2.99.{n}%out1:6001"
    for n in range(COUNT)
]
IDS = [mcr.Rule.parse(text).id for text in TEXTS]
SOME = st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=3, unique=True)


class Machine(RuleBasedStateMachine):
    """A daemon and its model."""

    lab: Lab
    ingress: Ingress

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.model: dict[str, bool] = {}
        self.revision = 0
        self.kills = 0

    @initialize()
    def begin(self) -> None:
        """Start the daemon, with all senders and receivers."""
        enter, lab = self.stack.enter_context, self.lab
        own = ("--ingress", self.ingress, "--workers", str(WORKERS))
        self.daemon: Daemon = enter(serving(lab.relay, *own))
        self.client: mcr.Client = enter(self.daemon.client())
        self.senders: list[Sender] = [
            enter(lab.sender(f"239.1.99.{n}", 5001)) for n in range(COUNT)
        ]
        self.receivers: list[tuple[Receiver, Receiver]] = [
            (
                enter(lab.receive(f"239.2.99.{n}", 6001)),
                enter(lab.receive(f"239.2.99.{n}", 6001, "d1")),
            )
            for n in range(COUNT)
        ]

    def teardown(self) -> None:
        """Shut the daemon down, whatever happened to it."""
        with self.stack:
            if hasattr(self, "daemon"):
                assert self.daemon.end() == 0

    def change(
        self, make: Callable[[], mcr.ChangeResult], after: dict[str, bool]
    ) -> mcr.ChangeResult:
        """Make a valid change."""
        self.revision += list(after.items()) != list(self.model.items())
        self.model = after
        result = make()
        assert result.revision == self.revision
        return result

    @rule(which=SOME, enabled=st.booleans())
    def add(self, which: list[int], enabled: bool) -> None:
        """Add rules; existing ones are kept, enabled or not."""
        ids = [IDS[n] for n in which]
        new = [each for each in ids if each not in self.model]
        kept = tuple(each for each in ids if each in self.model)
        after = {**self.model, **dict.fromkeys(new, enabled)}
        texts = [TEXTS[n] for n in which]
        result = self.change(lambda: self.client.add_rules(texts, enabled=enabled), after)
        assert ([rule.id for rule in result.added], result.kept) == (new, kept)

    @rule(which=SOME)
    def replace(self, which: list[int]) -> None:
        """Replace all rules by these, enabled."""
        after = {IDS[n]: True for n in which}
        self.change(lambda: self.client.replace_rules([TEXTS[n] for n in which]), after)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Remove an existing rule."""
        gone = data.draw(st.sampled_from(list(self.model)))
        after = {each: enabled for each, enabled in self.model.items() if each != gone}
        self.change(lambda: self.client.remove_rule(gone), after)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), enabled=st.booleans())
    def turn(self, data: st.DataObject, enabled: bool) -> None:
        """Enable or disable one."""
        turned = data.draw(st.sampled_from(list(self.model)))
        method = self.client.enable_rule if enabled else self.client.disable_rule
        self.change(lambda: method(turned), {**self.model, turned: enabled})

    @precondition(lambda self: self.kills < 3)
    @rule(number=st.integers(0, WORKERS - 1))
    def kill_worker(self, number: int) -> None:
        """The next step does not wait for its successor."""
        self.kill(self.client.workers()[number].pid)

    @precondition(lambda self: self.kills < 3)
    @rule()
    def kill_control(self) -> None:
        """The next step does not wait for its successor."""
        self.kill(self.daemon.control)

    @precondition(lambda self: self.kills < 2)
    @rule()
    def kill_all(self) -> None:
        """Kill all processes but the supervisor."""
        self.kill(self.daemon.control, *self.daemon.workers)

    def kill(self, *pids: int | None) -> None:
        """Send SIGKILL, unless the process is dead."""
        self.kills += 1  # few, lest the daemon wait longer and longer before it starts the next
        there = [pid for pid in pids if pid is not None]
        for pid in there:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in there))

    @invariant()
    def knows_the_rules(self) -> None:
        """The daemon has the rules of the model, in order and at the same revision."""
        if hasattr(self, "client"):
            rules = self.client.rules()
            assert {rule.id: rule.enabled for rule in rules} == self.model
            assert [rule.id for rule in rules] == list(self.model)
            assert rules.revision == self.revision

    @rule(mark=st.binary(min_size=1, max_size=50))
    def send(self, mark: bytes) -> None:
        """Once idle, a datagram passes each enabled rule to both outputs, and no other."""
        wait_until(lambda: self.client.ping().workers.running == WORKERS)
        before = self.client.stats().totals
        for sender in self.senders:
            sender.send([mark])
        enabled = [n for n in range(COUNT) if self.model.get(IDS[n])]
        for n in enabled:
            for receiver in self.receivers[n]:
                receiver.expect([mark])
        count = before.sent + 2 * len(enabled)
        stats = settle(self.client, lambda stats: stats.totals.sent >= count)
        assert_balanced(stats)
        assert stats.totals.lost == before.lost
        for n in range(COUNT):
            for receiver in self.receivers[n]:
                assert len(receiver.drain()) == (n in enabled)
                receiver.forget()


@pytest.mark.parametrize("ingress", ["packet", "udp"])
@pytest.mark.timeout(180)
def test_any_sequence_of_changes_and_kills(lab: Lab, ingress: Ingress) -> None:
    """The same machine for both ways of receiving."""
    own = type("OwnMachine", (Machine,), {"lab": lab, "ingress": ingress})
    run_state_machine_as_test(
        own,
        settings=settings(
            max_examples=3,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )
