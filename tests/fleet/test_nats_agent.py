"""Agents that follow real NATS servers: documents, deaths of servers, and no datagram lost."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.js.kv import VALID_KEY_RE
from tests.support.deadline import until, wait_until
from tests.support.fleet_agent import FleetStore, agent_process
from tests.support.nats_cluster import NatsCluster, nats_cluster
from tests.support.own_command import mcr_here
from tests.support.simulated_nodes import ObedientDaemon
from tests.topology.daemons import Daemon, put_first, serving

import mcr
from mcr.fleet import Agent, NatsSettings, NatsSource, NodeIdentity
from mcr.fleet.agent import PERIOD_S
from mcr.fleet.nats_connection import NatsConnection
from mcr.fleet.nats_store import RULES_BUCKET, NatsStore, key_of, name_of
from mcr.fleet.source import StoreConflict

FEED = "239.77.1.1%lo:5077,name=feed-a to 239.77.2.1%lo:6077"
OTHER = "239.77.1.2%lo:5078,name=feed-b to 127.0.0.1:7077"
T = TypeVar("T")
NODE = "ams1.example"
RATE_PPS, SIZE_BYTES = 20_000, 100
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,30}", fullmatch=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[NatsCluster]:
    """Three servers with the buckets of a fleet, each kept by all of them."""
    with nats_cluster() as made:
        FleetStore(NatsSettings(made.urls)).create(3)
        yield made


@pytest.fixture
def single() -> Iterator[NatsCluster]:
    """One server of the test's own, which starts much quicker than three."""
    with nats_cluster(1) as made:
        yield made


@pytest.fixture
def store(cluster: NatsCluster) -> Iterator[FleetStore]:
    """The store; its documents have no rules before and after a test."""
    made = FleetStore(NatsSettings(cluster.urls))
    yield made
    for name in (f"nodes/{NODE}", "labels/site=ams"):
        made.write(name)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A daemon on loopback."""
    with serving(None, "--ingress", "udp") as made:
        yield made


def preferred(call: Callable[[], T]) -> T:
    """Call with priority over other work on this machine: what it delays is not measured here."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
    return call()


def names(daemon: Daemon) -> set[str | None]:
    """The names of the daemon's rules."""
    with daemon.client() as client:
        return {rule.name for rule in client.rules()}


def test_documents_are_followed(cluster: NatsCluster, store: FleetStore, daemon: Daemon) -> None:
    """Those of the node and of its labels; what is broken is refused whole and reported."""
    store.write("labels/site=ams", FEED)
    with agent_process(daemon.socket, NODE, "--nats", cluster.url, "--label", "site=ams"):
        status = store.wait_status(NODE, "applied", 1)
        assert status["labels"] == {"site": "ams"}
        store.write(f"nodes/{NODE}", OTHER)
        store.wait_status(NODE, "applied", 2)
        assert names(daemon) == {"feed-a", "feed-b"}
        store.write("nodes/ams1", "239.77.1.3%lo:5079,name=foreign to 127.0.0.1:7077")
        for text in ("rules = [\n'no rule'\n", "\0", 'include = "*.toml"\n'):
            store.write_text(f"nodes/{NODE}", text)
            (problem, *_) = store.wait_status(NODE, "refused", 0)["problems"]
            assert problem.startswith(f"nodes/{NODE}:")
        assert names(daemon) == {"feed-a", "feed-b"}
        store.write(f"nodes/{NODE}")
        status = store.wait_status(NODE, "applied", 1)
        assert set(status["revisions"]) == {f"nodes/{NODE}", "labels/site=ams"}
        wait_until(
            lambda: (store.status(NODE)["traffic"] or {}).get("matched") == 0, 20, "counters"
        )


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_traffic_never_notices_the_servers(
    cluster: NatsCluster, store: FleetStore, daemon: Daemon, tmp_path: Path
) -> None:
    """A killed leader, silent servers, no server at all, and changes in between lose nothing."""
    state = str(tmp_path / "state.json")
    put_first(daemon)
    store.write("labels/site=ams", FEED)
    options = ("--nats", cluster.url, "--label", "site=ams", "--state", state)
    with (
        agent_process(daemon.socket, NODE, *options) as agent,
        mcr.Receiver("239.77.2.1%lo:6077") as receiver,
        mcr.Sender("239.77.1.1%lo:5077", size_bytes=SIZE_BYTES, rate_pps=RATE_PPS) as sender,
    ):
        store.wait_status(NODE, "applied", 1)
        reports: list[mcr.SendReport] = []
        receiving = threading.Thread(target=lambda: preferred(receiver.receive), daemon=True)
        sending = threading.Thread(target=lambda: reports.append(preferred(sender.send)))
        receiving.start()
        sending.start()
        try:
            leader = cluster.leader(RULES_BUCKET)
            cluster.kill(leader)
            store.write(f"nodes/{NODE}", OTHER)
            store.wait_status(NODE, "applied", 2)
            others = [number for number in range(3) if number != leader]
            for number in others:
                os.kill(cluster.pid(number), signal.SIGSTOP)
            agent.wait_for("no server answered in 2 s; the rules stay as read")
            for number in others:
                os.kill(cluster.pid(number), signal.SIGCONT)
            cluster.kill()
            agent.wait_for("connected")
            cluster.start()
            cluster.wait_ready()
            store.write(f"nodes/{NODE}")
            store.wait_status(NODE, "applied", 1)
        finally:
            sender.stop()
            sending.join()
        sent = reports[0].sent
        with contextlib.suppress(AssertionError):  # the report says how many are missing
            wait_until(lambda: receiver.report().received >= sent)
        report = receiver.report()
        with daemon.client() as client:
            stats = client.stats()
        assert (report.received, report.lost) == (sent, 0), stats
        assert sent > 5 * RATE_PPS
    with daemon.client() as client:
        assert not client.stats().imbalances()
        assert client.stats().totals.lost == 0


def test_a_start_without_servers_restores_the_rules(
    single: NatsCluster, daemon: Daemon, tmp_path: Path
) -> None:
    """The agent says how old they are; a daemon that is restarted meanwhile gets them as well."""
    cluster, store = single, FleetStore(NatsSettings(single.urls))
    store.create(1)
    options = ("--nats", cluster.url, "--state", str(tmp_path / "state.json"))
    store.write(f"nodes/{NODE}", FEED)
    with agent_process(daemon.socket, NODE, *options):
        store.wait_status(NODE, "applied", 1)
    with daemon.client() as client:
        client.replace_rules([])
    cluster.kill()
    with agent_process(daemon.socket, NODE, *options) as agent:
        wait_until(lambda: names(daemon) == {"feed-a"}, 20, what="restored rules")
        agent.wait_for("no NATS server could be reached")
        agent.wait_for("the rules stay as read")
        daemon.end()
        with serving(None, "--ingress", "udp", socket=daemon.socket) as successor:
            wait_until(lambda: names(successor) == {"feed-a"}, 20, what="rules of the new daemon")
            cluster.start()
            cluster.wait_ready()
            store.write(f"nodes/{NODE}", OTHER)
            store.wait_status(NODE, "applied", 1)
            wait_until(lambda: names(successor) == {"feed-b"}, 20, what="the new rules")


def test_a_store_that_begins_again_counts_after_a_while(
    single: NatsCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older revision is that of a server that lags behind, unless it stays."""
    monkeypatch.setattr("mcr.fleet.nats_source._STALE_S", 1.0)

    async def follow(url: str) -> None:
        settings = NatsSettings((url,))
        async with NatsConnection(settings) as connection:
            await connection.wait_connected(10)
            rules = NatsStore(connection, RULES_BUCKET)
            await rules.create(1, 64, None)
            for number in range(3):
                await rules.put("nodes/a", f"text {number}")
            async with NatsSource(settings, NodeIdentity("a")) as source:
                await source.wait_for_change(10)
                assert [each.text for each in await source.read()] == ["text 2"]
                await connection.client.jetstream().delete_stream(f"KV_{RULES_BUCKET}")
                await rules.create(1, 64, None)
                await rules.put("nodes/a", "another")
                began_s = time.monotonic()
                assert [each.text for each in await source.read()] == ["text 2"]
                while [each.text for each in await source.read()] != ["another"]:
                    await source.wait_for_change(0.1)
                assert 1.0 <= time.monotonic() - began_s < 10

    asyncio.run(follow(single.urls[0]))


def test_a_lost_message_costs_seconds(cluster: NatsCluster) -> None:
    """The agent reads its documents also where no server has said that they are new."""

    async def follow() -> float:
        settings, node = NatsSettings(cluster.urls), NodeIdentity("lossy")
        async with NatsConnection(settings) as connection, NatsSource(settings, node) as source:
            heard = source._connection.subscriptions
            heard |= dict.fromkeys(heard, lambda _: None)
            source._connection.on_connected = lambda: None
            await connection.wait_connected(10)
            rules = NatsStore(connection, RULES_BUCKET)
            await rules.put("nodes/lossy", "rules = []")
            daemon = ObedientDaemon()
            running = asyncio.create_task(Agent(source, daemon.as_client(), node).run())
            await until(lambda: daemon.revision == 1, what="the first rules")
            began_s = time.monotonic()
            await rules.put("nodes/lossy", "# changed\nrules = []")
            await until(lambda: daemon.revision == 2, what="the second rules")
            running.cancel()
            return time.monotonic() - began_s

    assert asyncio.run(follow()) < 2 * PERIOD_S


def test_the_quicker_client_wins(cluster: NatsCluster) -> None:
    """A document is written only over the revision that was read."""

    async def write() -> None:
        async with NatsConnection(NatsSettings(cluster.urls)) as connection:
            await connection.wait_connected(10)
            rules = NatsStore(connection, RULES_BUCKET)
            first = await rules.put("nodes/cas", "one", 0)
            second = await rules.put("nodes/cas", "two", first)
            for expected in (0, first):
                with pytest.raises(StoreConflict, match="changed by another client"):
                    await rules.put("nodes/cas", "three", expected)
            found = await rules.get("nodes/cas")
            assert found is not None
            assert (found.text, found.revision) == ("two", second)
            assert [each.text for each in await rules.entries("nodes/cas")] == ["one", "two"]

    asyncio.run(write())


@given(NAMES, NAMES)
def test_names_have_keys(first: str, second: str) -> None:
    """Every name that a node or a label may have; different names have different keys."""
    for name in (f"nodes/{first}", f"labels/{first}={second}", first):
        assert VALID_KEY_RE.match(key_of(name))
        assert name_of(key_of(name)) == name
    assert (key_of(first) == key_of(second)) == (first == second)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nats", "nats://user:secret@ams1:4222"], "must not have user or password"),
        (["--nats", "http://ams1"], "must be such as nats://ams1:4222"),
        (["--nats", ","], "at least one server"),
        (["--nats", "nats://ams1:4222", "--creds", "missing.seed"], "is not a file"),
        (["--nats", "tls://ams1:4222", "--tls-cert", __file__], "give both"),
        (["--nats", "nats://ams1:4222", "--directory", "."], "give one of them"),
        ([], "give one of them"),
        (["--nats", "nats://ams1:4222", "--creds", __file__], "has no seed of a user"),
        (["--nats", "nats://ams1:4222", "--tls-ca", __file__], "files of TLS cannot be used"),
    ],
)
def test_mistakes_in_options(options: list[str], message: str) -> None:
    """Each is one sentence, and shows no password."""
    run = mcr_here("agent", "--node", "ams1", *options)
    assert run.code in {1, 2}
    assert message in run.err
    assert "secret" not in run.err
    assert run.err.count("\n") == 1


def test_the_library_is_loaded_by_agents_of_servers_only() -> None:
    """An agent of a directory needs no extra."""
    look = "import sys, mcr.cli.agent, mcr.fleet; sys.exit('nats' in sys.modules)"
    subprocess.run([sys.executable, "-c", look], check=True)
