"""What `mcr fleet tree --auto` decides, by a clock and reports that the test sets."""

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from mcr.fleet.fleet import Fleet
from mcr.fleet.fleet_plan import FleetPlan, plan_documents
from mcr.fleet.rollout import FleetResult
from mcr.fleet.source import FleetDocument, SourceError, StoredText
from mcr.fleet.status import NodeState, NodeStatus
from mcr.fleet.tree_file import plan_trees, read_tree_file
from mcr.fleet.tree_keeper import TreeKeeper

SPEC = """
source = "239.80.1.1%lo:5001"
deliver = "239.80.1.2%lo:5001"
port = 5100
fan_out = 2
roots = ["r"]
[nodes.r]
""" + "".join(
    f'[nodes.{name}]\naddress = "127.0.0.{number}%lo"\n' for number, name in enumerate("abcd", 2)
)
NODES = "rabcd"


@dataclass
class ScriptedFleet:
    """The store of documents, and nodes that report as long as they are alive."""

    alive: set[str] = field(default_factory=lambda: set(NODES))
    unreachable: set[str] = field(default_factory=set)
    store: dict[str, str] = field(default_factory=dict)
    result: FleetResult = field(default_factory=FleetResult)
    fails: bool = False
    absent: list[frozenset[str]] = field(default_factory=list)
    """The nodes that were not waited for, of each change."""
    _last: dict[str, NodeStatus] = field(default_factory=dict)

    def report(self, now_s: float) -> None:
        """Have all nodes that are alive report; their clocks are an hour slow."""
        for name in self.alive:
            state: NodeState = "daemon_unreachable" if name in self.unreachable else "applied"
            status = NodeStatus(name, {}, "applied", {}, (), 1, 1, now_s, now_s - 3600)
            self._last[name] = replace(status, state=state)

    async def nodes(self) -> list[NodeStatus]:
        """The last reports."""
        if self.fails:
            raise SourceError("no NATS server is connected")
        return [*self._last.values()]

    async def plan(self, documents: Iterable[FleetDocument]) -> FleetPlan:
        """Compare with the store."""
        stored = [StoredText(name, text, 1) for name, text in self.store.items()]
        return plan_documents(documents, stored)

    async def apply(
        self, plan: FleetPlan, *, timeout_s: float, absent: Collection[str]
    ) -> FleetResult:
        """Write the documents."""
        assert timeout_s > 0
        self.absent.append(frozenset(absent))
        self.store |= {each.name: each.text for each in plan.documents}
        return self.result


@dataclass
class FakeClock:
    """A clock that a test advances."""

    now_s: float = 1000.0

    def monotonic(self) -> float:
        """The time, in seconds."""
        return self.now_s


@dataclass
class KeeperTrial:
    """A keeper, its fleet and the clock."""

    fleet: ScriptedFleet
    clock: FakeClock
    keeper: TreeKeeper
    said: list[str]

    def pass_time(self, seconds: int) -> None:
        """Look each second; nodes that are alive report every five."""
        for _ in range(seconds):
            self.clock.now_s += 1
            if self.clock.now_s % 5 == 0:
                self.fleet.report(self.clock.now_s)
            asyncio.run(self.look())

    async def look(self) -> None:
        """Look once, as `TreeKeeper.run` does."""
        running = asyncio.create_task(self.keeper.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> KeeperTrial:
    """A tree over five nodes that all report, and was applied."""
    fleet, said = ScriptedFleet(), list[str]()
    clock = FakeClock()
    monkeypatch.setattr("mcr.fleet.tree_keeper.time", clock)
    file = read_tree_file(SPEC.encode())
    keeper = TreeKeeper(
        cast(Fleet, fleet),
        file,
        plan_trees(file),
        dead_after_s=30,
        back_after_s=60,
        save=lambda *_: None,
        log=said.append,
    )
    trial = KeeperTrial(fleet, clock, keeper, said)
    trial.pass_time(40)
    assert fleet.absent == [frozenset()]
    assert len(fleet.store) == len(NODES)
    return trial


def test_a_dead_node_is_left_out_and_comes_back(trial: KeeperTrial) -> None:
    """Its document has no rules meanwhile, and nothing waits for it."""
    before = dict(trial.fleet.store)
    trial.fleet.alive.discard("a")
    trial.pass_time(30)
    assert trial.fleet.store == before
    trial.pass_time(20)
    assert trial.fleet.absent[1:] == [{"a"}]
    assert trial.fleet.store["nodes/a"] == "rules = []\n"
    assert any("planned without a" in each for each in trial.said)
    trial.fleet.alive.add("a")
    trial.pass_time(50)
    assert len(trial.fleet.absent) == 2
    trial.pass_time(20)
    assert trial.fleet.absent[2:] == [frozenset()]
    assert trial.fleet.store["nodes/a"] != "rules = []\n"


def test_a_daemon_that_does_not_answer_is_dead(trial: KeeperTrial) -> None:
    """Though its agent reports."""
    trial.fleet.unreachable.add("b")
    trial.pass_time(40)
    assert trial.fleet.absent[1:] == [{"b"}]


def test_servers_that_fail_say_nothing_about_nodes(trial: KeeperTrial) -> None:
    """Nor do the reports that are missing for a while afterwards."""
    trial.fleet.fails = True
    trial.pass_time(200)
    trial.fleet.fails = False
    trial.pass_time(40)
    assert len(trial.fleet.absent) == 1
    assert "no NATS server is connected; nothing is planned until the servers answer" in trial.said


@pytest.mark.parametrize(
    ("dead", "sentence"),
    [
        ("abc", "3 of 5 nodes are dead; nothing is planned"),
        ("r", "r: r cannot be left out; name another root; nothing is planned"),
    ],
)
def test_what_no_tree_can_help_is_said_once(trial: KeeperTrial, dead: str, sentence: str) -> None:
    """More than half of the nodes, or the only root: all rules stay."""
    before = dict(trial.fleet.store)
    trial.fleet.alive -= set(dead)
    trial.pass_time(120)
    assert trial.fleet.store == before
    assert trial.said.count(sentence) == 1


def test_a_change_that_was_refused_is_tried_again_after_a_pause(trial: KeeperTrial) -> None:
    """And no more often."""
    trial.fleet.alive.discard("a")
    trial.fleet.result = FleetResult(refused={"b": ("no such interface",)})
    trial.pass_time(45 + 95)
    assert 3 <= len(trial.fleet.absent) - 1 <= 4
    assert "b refused: no such interface" in trial.said
    trial.fleet.result = FleetResult()
    trial.pass_time(100)
    assert len(trial.fleet.absent) - 1 <= 5
