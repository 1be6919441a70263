"""What a fleet costs: a change to many nodes, `mcr fleet` with a thousand, an idle agent."""

import asyncio
import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.fleet_agent import MCR, FleetStore, agent_process
from tests.support.nats_cluster import NatsCluster, nats_cluster
from tests.support.simulated_nodes import ObedientDaemon, answering_nodes
from tests.topology.daemons import cpu_s, memory_kib, serving

from mcr.fleet import Agent, Fleet, FleetDocument, NatsSettings, NatsSource, NodeIdentity
from mcr.fleet.agent import HEARTBEAT_S
from mcr.fleet.nats_connection import NatsConnection
from mcr.fleet.nats_store import RULES_BUCKET, NatsStore
from mcr.fleet.rollout import Progress

NODES, RULES, CHANGES = 200, 1000, 3
P99_S = 2.0
MEMORY_MIB, IDLE_SHARE, IDLE_S = 80, 0.01, HEARTBEAT_S
LABEL = (("site", "ams"),)
MANY, MANY_RULES = 1000, 5
LOOK_S = 0.02
COMMAND_S, COMMAND_MIB = 20.0, 150
REQUESTS, REQUESTS_PER_S = 20, 5
"""How many a command may have answered by the servers, however many nodes there are."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[NatsCluster]:
    """Three servers with the buckets of a fleet."""
    with nats_cluster() as made:
        FleetStore(NatsSettings(made.urls)).create(3)
        yield made


def rule(number: int) -> str:
    """One of many rules."""
    return f"239.80.{number // 250}.{1 + number % 250}%lo:5077 to 127.0.0.1:7077"


async def follow(source: NatsSource, seen: dict[str, float]) -> None:
    """Note when each text of the label was read first, until cancelled."""
    async with source:
        while True:
            await source.wait_for_change(2.0)
            for document in await source.read():
                seen.setdefault(document.text, time.monotonic())


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_a_change_reaches_many_nodes(cluster: NatsCluster) -> None:
    """Each node has its own connection, and reads the text of a thousand rules."""
    rules = ",\n".join(f'"{rule(number)}"' for number in range(RULES))

    async def measure() -> list[float]:
        settings = NatsSettings(cluster.urls)
        delays: list[float] = []
        seen: list[dict[str, float]] = [{} for _ in range(NODES)]
        async with asyncio.TaskGroup() as tasks, NatsConnection(settings) as connection:
            await connection.wait_connected(20)
            store = NatsStore(connection, RULES_BUCKET)
            followers = [
                tasks.create_task(follow(NatsSource(settings, NodeIdentity(f"n{each}", LABEL)), at))
                for each, at in enumerate(seen)
            ]
            for change in range(-1, CHANGES):  # the first one waits until all are connected
                text = f"# {change}\nrules = [{rules}]\n"
                began_s = time.monotonic()
                await store.put("labels/site=ams", text)
                while not all(text in each for each in seen):
                    assert time.monotonic() - began_s < 60
                    await asyncio.sleep(0.02)
                if change >= 0:
                    delays += [each[text] - began_s for each in seen]
            for each in followers:
                each.cancel()
        return sorted(delays)

    delays = asyncio.run(measure())
    show(delays)
    assert percentile_99(delays) < P99_S


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_an_agent_costs_little(cluster: NatsCluster, tmp_path: Path) -> None:
    """With a thousand rules, and nothing that changes."""
    store = FleetStore(NatsSettings(cluster.urls))
    options = ("--nats", cluster.url, "--state", str(tmp_path / "state.json"))
    with (
        serving(None, "--ingress", "udp") as daemon,
        agent_process(daemon.socket, "ams1", *options) as agent,
    ):
        store.write("nodes/ams1", *map(rule, range(RULES)))
        store.wait_status("ams1", "applied", RULES)
        memory_mib = memory_kib(agent.pid) / 1024
        before_s = cpu_s(agent.pid)
        time.sleep(IDLE_S)  # what passes without any event is what is measured
        share = (cpu_s(agent.pid) - before_s) / IDLE_S
    print(f"{memory_mib:.1f} MiB, {100 * share:.2f} % of a core")
    assert memory_mib < MEMORY_MIB
    assert share < IDLE_SHARE


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_many_agents_answer_a_change(cluster: NatsCluster) -> None:
    """Whole agents, that have parsed the document, given it to a daemon and reported it."""

    async def measure() -> list[list[float]]:
        settings = NatsSettings(cluster.urls)
        changes: list[list[float]] = [[] for _ in range(CHANGES)]
        async with asyncio.TaskGroup() as tasks, Fleet(settings) as fleet:
            agents = [tasks.create_task(run_agent(settings, f"m{each}")) for each in range(NODES)]
            await until_reported(fleet)
            for change, delays in enumerate(changes):
                text = f"rules = {json.dumps([rule(change), *map(rule, range(100, 109))])}\n"
                plan = await fleet.plan([FleetDocument("labels/site=all", text)])
                answers = note_answers(delays, time.monotonic())
                result = await fleet.apply(plan, progress=answers)
                assert result.is_complete
                assert len(result.applied) == NODES
            for each in agents:
                each.cancel()
        return [sorted(each) for each in changes]

    changes = asyncio.run(measure())
    for each in changes:
        show(each)
        assert len(each) == NODES
    # The one in the middle: neighbours of this machine may disturb one of them.
    assert sorted(map(percentile_99, changes))[CHANGES // 2] < P99_S


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_a_thousand_nodes_are_changed_by_commands(cluster: NatsCluster, tmp_path: Path) -> None:
    """One template, a document for each node; the servers answer few requests for each command."""
    names = [f"k{each}.example" for each in range(MANY)]
    tables = (
        f'["{each}"]\nlabels = {{ size = "k" }}\nvalues = {{ link = "lo" }}' for each in names
    )
    (tmp_path / "nodes.toml").write_text("\n".join(tables))
    (tmp_path / "labels").mkdir()
    template = json.dumps(
        [rule(each).replace("%lo", "%{{ node.link }}") for each in range(MANY_RULES)]
    )
    (tmp_path / "labels" / "size=k.toml").write_text(f"rules = {template}\n")
    with answering_nodes(NatsSettings(cluster.urls), names):
        planned = command(cluster, "plan", str(tmp_path))
        assert f"{MANY} documents change, 0 stay" in planned
        applied = command(cluster, "apply", str(tmp_path), "--yes", "--batch", "100")
        assert f"{MANY} documents written, {MANY} nodes have applied them" in applied
        listed = json.loads(command(cluster, "nodes", "--json"))
        assert {each["node"] for each in listed if each["state"] == "applied"} >= {*names}


def command(cluster: NatsCluster, *words: str) -> str:
    """Run `mcr fleet`; return what it prints, and check what it has used."""
    requests, began_s, memory_mib = cluster.requests(), time.monotonic(), 0.0
    with tempfile.TemporaryFile("w+") as output:
        command = [MCR, "fleet", *words, "--nats", cluster.url]
        with subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL) as process:
            while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
                with contextlib.suppress(IndexError):  # it has just ended
                    memory_mib = max(memory_mib, memory_kib(process.pid) / 1024)
                time.sleep(LOOK_S)
            process.returncode = os.waitstatus_to_exitcode(ended[1])
        output.seek(0)
        said = output.read()
    assert process.returncode == 0, said[-2000:]
    took_s, processor_s = time.monotonic() - began_s, ended[2].ru_utime + ended[2].ru_stime
    requests = cluster.requests() - requests
    print(
        f"mcr fleet {words[0]}: {took_s:.1f} s, processor {processor_s:.1f} s,"
        f" {memory_mib:.0f} MiB, {requests} requests"
    )
    assert memory_mib < COMMAND_MIB
    assert processor_s < COMMAND_S
    assert requests < REQUESTS + took_s * REQUESTS_PER_S
    return said


def note_answers(delays: list[float], began_s: float) -> Callable[[Progress], None]:
    """A function that notes how long after a moment each node has applied a document."""

    def note(progress: Progress) -> None:
        if progress.step == "applied":
            delays.append(time.monotonic() - began_s)

    return note


async def run_agent(settings: NatsSettings, name: str) -> None:
    """An agent of a simulated node, until cancelled."""
    node = NodeIdentity(name, (("site", "all"),))
    async with NatsSource(settings, node) as source:
        await Agent(source, ObedientDaemon().as_client(), node).run()


async def until_reported(fleet: Fleet) -> None:
    """Wait until all simulated nodes have reported."""
    ends_s = time.monotonic() + 60
    while len([each for each in await fleet.nodes() if each.labels]) < NODES:
        assert time.monotonic() < ends_s
        await asyncio.sleep(0.1)


def percentile_99(delays: list[float]) -> float:
    """What 99 of 100 sorted delays are below."""
    return delays[int(0.99 * len(delays))]


def show(delays: list[float]) -> None:
    """Print what sorted delays are like."""
    p99_s, middle_s = percentile_99(delays), delays[len(delays) // 2]
    print(f"median {middle_s:.3f} s, p99 {p99_s:.3f} s, max {delays[-1]:.3f} s")
