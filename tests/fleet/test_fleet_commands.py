"""`mcr fleet` with real servers, agents and daemons: apply, canary, conflicts, rollback."""

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.fleet_agent import MCR, FleetStore, agent_process
from tests.support.nats_cluster import NatsCluster, nats_cluster
from tests.support.own_command import mcr_here
from tests.support.terminal import on_terminal
from tests.top.screens import shows
from tests.topology.daemons import Daemon, serving

from mcr.fleet import Fleet, NatsSettings
from mcr.fleet.fleet_plan import FleetPlan
from mcr.fleet.source import FleetDocument
from mcr.top.fleet_app import FleetTopApp
from mcr.top.fleet_reader import FleetReader

NODES = {"ams1": "lo", "fra1.example": "lo"}
INVENTORY = """
[ams1]
labels = { site = "ams" }
values = { link = "lo", port = 5071 }
["fra1.example"]
labels = { site = "ams" }
values = { link = "lo", port = 5072 }
"""
FEED = "239.78.1.1%{{ node.link }}:{{ node.port }},name=feed to 127.0.0.1:7071"
LOOP = "239.78.1.1%lo:5071 to 239.78.1.2%lo:5071", "239.78.1.2%lo:5071 to 239.78.1.1%lo:5071"


@pytest.fixture(scope="module")
def cluster() -> Iterator[NatsCluster]:
    """One server with the buckets of a fleet, made by the command."""
    with nats_cluster(1) as made:
        assert fleet(made, "nodes", fails=True).startswith("mcr: the servers have no store")
        fleet(made, "create", "--replicas", "1")
        fleet(made, "create", "--replicas", "1")
        yield made


@pytest.fixture(scope="module")
def daemons(cluster: NatsCluster) -> Iterator[dict[str, Daemon]]:
    """A daemon for each node, each with its agent."""
    store = FleetStore(NatsSettings(cluster.urls))
    with ExitStack() as stack:
        made = {}
        for node in NODES:
            made[node] = stack.enter_context(serving(None, "--ingress", "udp"))
            stack.enter_context(agent_process(made[node].socket, node, "--nats", cluster.url))
            store.wait_status(node, "no_document", 0)
        yield made


def fleet(cluster: NatsCluster, *words: str, fails: bool = False) -> str:
    """Run a command; return what it prints."""
    run = mcr_here("fleet", *words, "--nats", cluster.url)
    assert bool(run.code) == fails, run.out + run.err
    return run.out + run.err


def write(directory: Path, *rules: str) -> Path:
    """A directory whose documents have these rules for both nodes."""
    (directory / "labels").mkdir(exist_ok=True)
    (directory / "nodes.toml").write_text(INVENTORY)
    (directory / "labels" / "site=ams.toml").write_text(f"rules = {json.dumps(rules)}\n")
    return directory


def rules_of(daemon: Daemon) -> list[str]:
    """The inputs of the daemon's rules."""
    with daemon.client() as client:
        return sorted(rule.rule.partition(" to ")[0] for rule in client.rules())


def test_apply_and_rollback(
    cluster: NatsCluster, daemons: dict[str, Daemon], tmp_path: Path
) -> None:
    """The canary first; each node has its values; a revision is restored."""
    directory = write(tmp_path, FEED)
    text = fleet(cluster, "plan", str(directory))
    assert "  + 239.78.1.1%lo:5071,name=feed to 127.0.0.1:7071\n" in text
    assert text.endswith("2 documents change, 0 stay\n")
    assert not rules_of(daemons["ams1"])
    text = fleet(cluster, "apply", str(directory), "--yes", "--canary", "fra1.example")
    steps = re.findall(r"^(written|applied) (\S+) \(", text, re.MULTILINE)
    assert steps == [
        ("written", "nodes/fra1.example"),
        ("applied", "fra1.example"),
        ("written", "nodes/ams1"),
        ("applied", "ams1"),
    ]
    assert rules_of(daemons["ams1"]) == ["239.78.1.1%lo:5071,name=feed"]
    assert rules_of(daemons["fra1.example"]) == ["239.78.1.1%lo:5072,name=feed"]
    listed = json.loads(fleet(cluster, "nodes", "--json"))
    assert {each["node"]: each["state"] for each in listed} == dict.fromkeys(NODES, "applied")
    assert "0 documents change, 2 stay" in fleet(cluster, "apply", str(directory), "--yes")
    write(tmp_path)
    text = fleet(cluster, "apply", str(directory), "--yes", "--json")
    first = min(json.loads(text.splitlines()[0])["written"].values())
    assert not rules_of(daemons["ams1"])
    assert "5071,name=feed" in fleet(cluster, "show", "nodes/ams1", "--revision", str(first - 1))
    only = ("--document", "nodes/ams1")
    fleet(cluster, "rollback", str(first - 1), *only, "--yes")
    assert rules_of(daemons["ams1"]) == ["239.78.1.1%lo:5071,name=feed"]
    assert not rules_of(daemons["fra1.example"])
    assert len(fleet(cluster, "history", "nodes/ams1").splitlines()) == 4
    fleet(cluster, "rollback", "0", "--yes")
    assert not rules_of(daemons["ams1"])


def test_it_stops_at_the_first_node_that_refuses(
    cluster: NatsCluster, daemons: dict[str, Daemon], tmp_path: Path
) -> None:
    """The others keep their documents, and the node its rules."""
    fleet(cluster, "apply", str(write(tmp_path, FEED)), "--yes")
    text = fleet(
        cluster, "apply", str(write(tmp_path, *LOOP)), "--yes", "--canary", "ams1", fails=True
    )
    assert "ams1 refused: nodes/ams1:1, rule" in text
    assert "not written: nodes/fra1.example" in text
    assert "applied 0" not in text
    assert rules_of(daemons["ams1"]) == ["239.78.1.1%lo:5071,name=feed"]
    assert "problem: nodes/ams1:1, rule" in fleet(cluster, "status", "ams1")
    (undo,) = re.findall(r"mcr fleet (rollback \d+)", text)
    fleet(cluster, *undo.split(), "--yes")
    assert "state: applied" in fleet(cluster, "status", "ams1")


def test_a_rollback_needs_the_history(cluster: NatsCluster) -> None:
    """Where it was removed, nothing says whether the document had rules before: it is refused."""
    store = FleetStore(NatsSettings(cluster.urls))
    rule = "239.78.1.9%lo:5079 to 127.0.0.1:7079"
    only = ("--document", "nodes/par1", "--yes")
    first = store.write("nodes/par1", rule)
    store.write("nodes/par1")
    store.remove_history("nodes/par1")
    text = fleet(cluster, "rollback", str(first), *only, fails=True)
    assert f"the history of nodes/par1 begins at revision {first + 1}" in text
    assert fleet(cluster, "show", "nodes/par1") == "rules = []\n"


def test_nothing_is_written_with_an_unknown_value(cluster: NatsCluster, tmp_path: Path) -> None:
    """One mistake in one file of one node."""
    before = fleet(cluster, "history")
    directory = write(tmp_path, FEED.replace("node.port", "node.prot"))
    text = fleet(cluster, "apply", str(directory), "--yes", fails=True)
    assert "site=ams.toml:1: node.prot is not a value of ams1" in text
    assert fleet(cluster, "history") == before


@pytest.mark.usefixtures("daemons")
def test_two_administrators_at_once(cluster: NatsCluster) -> None:
    """The slower one is refused with the revision of the other, and has written nothing."""

    def document(port: int) -> list[FleetDocument]:
        return [FleetDocument("nodes/ams1", f'rules = ["239.78.1.3%lo:{port} to 127.0.0.1:1"]\n')]

    async def apply() -> None:
        settings = NatsSettings(cluster.urls)
        async with Fleet(settings) as one, Fleet(settings) as other:
            plans: list[FleetPlan] = [await each.plan(document(9)) for each in (one, other)]
            result = await one.apply(plans[0])
            assert result.is_complete
            (revision,) = result.written.values()
            late = await other.apply(plans[1])
            assert late.is_complete  # the same text: there is nothing to disagree about
            assert late.written == {"nodes/ams1": revision}
            stale = await other.plan(document(10))
            await one.apply(await one.plan(document(11)))
            refused = await other.apply(stale)
            assert not refused.written
            assert refused.left == ("nodes/ams1",)
            assert refused.conflict is not None
            assert re.search(r"changed by another client and is at revision \d+", refused.conflict)

    asyncio.run(apply())


def test_silent_nodes_are_not_waited_for(cluster: NatsCluster, tmp_path: Path) -> None:
    """The command names them, and does not report success."""
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "lon1.toml").write_text("rules = []\n")
    text = fleet(cluster, "apply", str(tmp_path), "--yes", fails=True)
    assert "do not report, and follow when they return: lon1" in text
    assert fleet(cluster, "show", "nodes/lon1") == "rules = []\n"


@pytest.mark.usefixtures("daemons")
def test_absent_nodes_are_not_waited_for(cluster: NatsCluster, tmp_path: Path) -> None:
    """A name that no node has is refused before anything is written."""
    directory = str(write(tmp_path, FEED))
    before = fleet(cluster, "history")
    text = fleet(cluster, "apply", directory, "--yes", "--absent", "ams11", fails=True)
    assert text.endswith(
        "mcr: ams11 has neither reported nor a document in the plan; did you mean 'ams1'?\n"
    )
    assert fleet(cluster, "history") == before
    text = fleet(cluster, "apply", directory, "--yes", "--absent", "ams1", fails=True)
    assert "do not report, and follow when they return: ams1" in text
    fleet(cluster, "apply", str(write(tmp_path)), "--yes")


@pytest.mark.usefixtures("daemons")
def test_the_screen_follows_the_servers(cluster: NatsCluster) -> None:
    """`mcr fleet top` without a terminal: a node that refuses, and then has its new revision."""
    store = FleetStore(NatsSettings(cluster.urls))

    async def follow() -> None:
        app = FleetTopApp(FleetReader(Fleet(NatsSettings(cluster.urls)), cluster.url))
        async with app.run_test(size=(80, 24)) as pilot:
            await shows(app, pilot, "ams1", "fra1.example")
            refused = await asyncio.to_thread(store.write_text, "nodes/ams1", "rules = [")
            found = await shows(app, pilot, "refused")
            (line,) = [each for each in found.splitlines() if each.startswith("ams1")]
            assert line.split()[2] == str(refused)
            assert int(line.split()[3]) < refused
            applied = await asyncio.to_thread(store.write, "nodes/ams1")
            await shows(app, pilot, "applied", f"{applied}{applied:>8}")

    asyncio.run(follow())


def test_the_screen_needs_servers_and_a_terminal(cluster: NatsCluster) -> None:
    """On one it shows the nodes until q; else it says what is missing."""
    said = fleet(cluster, "top", fails=True)
    assert "mcr fleet top needs a terminal; mcr fleet nodes works without one" in said
    command = [MCR, "fleet", "top", "--nats", cluster.url]
    with on_terminal(command, b"with a problem", {}) as terminal:
        os.write(terminal.ours, b"q")
        wait_until(terminal.ended, what="the end")
        assert terminal.process.returncode == 0


@pytest.mark.usefixtures("daemons")
def test_events_are_printed(cluster: NatsCluster) -> None:
    """The state of each node at first, and what changes then."""
    store = FleetStore(NatsSettings(cluster.urls))
    command = [MCR, "fleet", "events", "--nats", cluster.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            seen = process.stdout.readline() + process.stdout.readline()
            assert "ams1: " in seen
            assert "fra1.example: " in seen
            store.write_text("nodes/ams1", "rules = [")
            while "ams1: refused" not in seen:
                seen += process.stdout.readline()
            store.write("nodes/ams1")
            while "ams1: applied, 0 rules" not in seen:
                seen += process.stdout.readline()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)
