"""Any sequence of changes, refusals, and deaths of workers and control, against a model."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support.deadline import wait_until
from tests.support.fake_supervisor import FakeSupervisor
from tests.support.raw_client import RawClient

from mcr.rules import Rule

TEXTS = [
    f"239.1.1.{n}%lo:5001{f',name=r{n}' if n % 2 else ''} to 127.0.0.1:{7000 + n}" for n in range(6)
]
IDS = [Rule.parse(text).id for text in TEXTS]
WORKERS = 2
NUMBERS = st.integers(0, WORKERS - 1)
SOME = st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=4, unique=True)


class Daemon(RuleBasedStateMachine):
    """The daemon and its model: rules in order, each enabled or not."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="mcr-", dir="/tmp"))
        self.supervisor = FakeSupervisor(self.directory, workers=WORKERS)
        self.model: dict[str, bool] = {}
        self.revision = 0

    @initialize()
    def begin(self) -> None:
        """Start the daemon."""
        self.supervisor.start()

    def teardown(self) -> None:
        """End the daemon."""
        self.supervisor.close()
        shutil.rmtree(self.directory)

    def change(self, method: str, after: dict[str, bool], **params: object) -> dict[str, Any]:
        """Request a change, and update the model if it was made."""
        with RawClient(self.supervisor.path, 30) as client:
            answer = client.ask(method, **params)
        if "result" in answer and not answer["result"]["dry_run"]:
            self.revision += list(after.items()) != list(self.model.items())
            self.model = after
        return answer

    @rule(which=SOME, enabled=st.booleans(), dry_run=st.booleans())
    def add(self, which: list[int], enabled: bool, dry_run: bool) -> None:
        """Add those that do not exist; the others are kept, enabled or not."""
        ids = [IDS[n] for n in which]
        new = [each for each in ids if each not in self.model]
        kept = [each for each in ids if each in self.model]
        after = {**self.model, **dict.fromkeys(new, enabled)}
        texts = [TEXTS[n] for n in which]
        answer = self.change("rules.add", after, rules=texts, enabled=enabled, dry_run=dry_run)
        result = answer["result"]
        assert ([rule["id"] for rule in result["added"]], result["kept"]) == (new, kept)

    @rule(which=SOME)
    def remove(self, which: list[int]) -> None:
        """Remove all of them, or none if one does not exist."""
        ids = [IDS[n] for n in which]
        there = all(each in self.model for each in ids)
        after = {each: on for each, on in self.model.items() if not there or each not in ids}
        assert ("error" in self.change("rules.remove", after, rules=ids)) != there

    @rule(which=SOME, enabled=st.booleans())
    def set_enabled(self, which: list[int], enabled: bool) -> None:
        """Enable or disable all of them, or none if one does not exist."""
        ids = [IDS[n] for n in which]
        there = all(each in self.model for each in ids)
        turned = dict.fromkeys(ids, enabled) if there else {}
        method = "rules.enable" if enabled else "rules.disable"
        assert ("error" in self.change(method, {**self.model, **turned}, rules=ids)) != there

    @rule(which=SOME, off=st.sets(st.integers(0, 5)), stale=st.booleans())
    def replace(self, which: list[int], off: set[int], stale: bool) -> None:
        """Replace the whole set, if it is at the expected revision."""
        rules = [{"rule": TEXTS[n], "enabled": n not in off} for n in which]
        after = self.model if stale else {IDS[n]: n not in off for n in which}
        expected = self.revision + stale
        answer = self.change("rules.replace", after, rules=rules, expected_revision=expected)
        assert answer.get("error", {}).get("code") == (-32002 if stale else None)

    @rule(number=NUMBERS, which=SOME)
    def refuse(self, number: int, which: list[int]) -> None:
        """A worker refuses a change; nothing has changed."""
        worker = self.supervisor.workers[number]
        worker.script["prepare"] = "refuse"
        rules = [TEXTS[n] for n in which]
        answer = self.change("rules.replace", self.model, rules=rules)
        would_change = [(IDS[n], True) for n in which] != list(self.model.items())
        assert ("error" in answer) == would_change
        worker.script.clear()

    @rule(number=NUMBERS, at=st.sampled_from(["prepare", "commit"]), which=SOME)
    def die_in_a_change(self, number: int, at: str, which: list[int]) -> None:
        """A worker dies during a change; the other continues, and the change is made."""
        self.supervisor.workers[number].script[at] = "die"
        after = {IDS[n]: True for n in which}
        would_change = list(after.items()) != list(self.model.items())
        answer = self.change("rules.replace", after, rules=[TEXTS[n] for n in which])
        assert "result" in answer
        if would_change:
            self.supervisor.kill_worker(number)
        self.supervisor.workers[number].script.clear()

    @rule(number=NUMBERS)
    def kill(self, number: int) -> None:
        """A worker dies between changes."""
        self.supervisor.kill_worker(number)

    @rule()
    def kill_all(self) -> None:
        """All workers die."""
        for number in range(WORKERS):
            self.supervisor.kill_worker(number)

    @precondition(lambda self: self.supervisor.keeps < 60)
    @rule()
    def restart_control(self) -> None:
        """Control dies, and its successor continues."""
        self.supervisor.restart_control()

    @invariant()
    def all_are_equal(self) -> None:
        """Clients and all workers have the rules of the model."""
        if not self.supervisor.ready.is_set():
            return
        with RawClient(self.supervisor.path) as client:
            listed = client.call("rules.list")
        found = {each["id"]: each["enabled"] for each in listed["rules"]}
        assert list(found.items()) == list(self.model.items())
        assert listed["revision"] == self.revision
        wait_until(self.workers_agree, what="every worker has the rules")

    def workers_agree(self) -> bool:
        """Whether all workers have all rules, at the current revision."""
        return all(
            worker.revision == self.revision
            and {each: spec["enabled"] for each, spec in worker.rules.items()} == self.model
            for worker in self.supervisor.workers.values()
        )


TestDaemon = pytest.mark.timeout(240)(Daemon.TestCase)
TestDaemon.settings = settings(
    max_examples=8,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
