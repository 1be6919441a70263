"""What a fleet costs: the time of a change to many nodes, memory and CPU of an agent."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fleet_agent import FleetStore, agent_process
from tests.support.nats_cluster import NatsCluster, nats_cluster
from tests.topology.daemons import memory_kib, serving

from mcr.fleet import NatsSettings, NatsSource, NodeIdentity
from mcr.fleet.agent import HEARTBEAT_S
from mcr.fleet.nats_connection import NatsConnection
from mcr.fleet.nats_store import RULES_BUCKET, NatsStore

NODES, RULES, CHANGES = 200, 1000, 3
P99_S = 2.0
MEMORY_MIB, IDLE_SHARE, IDLE_S = 80, 0.01, HEARTBEAT_S
LABEL = (("site", "ams"),)


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
    p99_s = delays[int(0.99 * len(delays))]
    print(f"median {delays[len(delays) // 2]:.3f} s, p99 {p99_s:.3f} s, max {delays[-1]:.3f} s")
    assert p99_s < P99_S


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


def cpu_s(pid: int) -> float:
    """The CPU time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
