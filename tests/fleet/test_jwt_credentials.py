"""Credentials files with JWTs, on a real server that knows nothing but its operator."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fleet_agent import FleetStore, agent_process
from tests.support.nats_cluster import NatsCluster, nats_cluster
from tests.support.nats_jwt import JwtAuthority
from tests.topology.daemons import serving

from mcr.fleet import NatsSettings, NodeIdentity, SourceError
from mcr.fleet.nats_connection import NatsConnection
from mcr.fleet.nats_source import inbox_of
from mcr.fleet.nats_store import RULES_BUCKET, NatsStore
from mcr.fleet.permissions import permissions_of

NODE = NodeIdentity("ams1", (("site", "ams"),))
RULE = "239.79.2.1%lo:5072,name=feed to 127.0.0.1:7072"


@pytest.fixture(scope="module")
def authority() -> JwtAuthority:
    """Who issues credentials."""
    return JwtAuthority()


@pytest.fixture(scope="module")
def server(authority: JwtAuthority) -> Iterator[NatsCluster]:
    """A server that trusts the operator."""
    with nats_cluster(1, authority.configuration) as made:
        yield made


@pytest.fixture(scope="module")
def store(
    server: NatsCluster, authority: JwtAuthority, tmp_path_factory: pytest.TempPathFactory
) -> FleetStore:
    """The store of the fleet, by an administrator's credentials."""
    path = tmp_path_factory.mktemp("admin") / "admin.creds"
    authority.write_user(path)
    made = FleetStore(NatsSettings(server.urls, path))
    made.create(1)
    made.write("nodes/fra1")
    return made


def test_an_agent_follows_its_documents(
    server: NatsCluster, authority: JwtAuthority, store: FleetStore, tmp_path: Path
) -> None:
    """By the permissions of its JWT, which are those of its keys; the seed stays in its file."""
    path = tmp_path / "ams1.creds"
    seed = authority.write_user(path, *permissions_of(NODE))
    store.write("labels/site=ams", RULE)
    options = ("--nats", server.url, "--creds", str(path), "--label", "site=ams")
    with (
        serving(None, "--ingress", "udp") as daemon,
        agent_process(daemon.socket, "ams1", *options) as agent,
    ):
        store.wait_status("ams1", "applied", 1)
        with daemon.client() as client:
            assert [rule.name for rule in client.rules()] == ["feed"]
        seen = agent.log + Path(f"/proc/{agent.pid}/cmdline").read_text() + server.log()
        assert seed not in seen


def test_a_jwt_permits_what_it_says(
    server: NatsCluster, authority: JwtAuthority, store: FleetStore, tmp_path: Path
) -> None:
    """Another node's document is refused by the server."""
    path = tmp_path / "ams1.creds"
    authority.write_user(path, *permissions_of(NODE))
    assert store.status("fra1") is None
    assert "ermissions" in read(server, path, "nodes/fra1")
    assert read(server, path, "nodes/ams1") == ""


@pytest.mark.parametrize("kind", ["expired", "foreign"])
def test_a_jwt_that_does_not_count_is_refused_at_once(
    server: NatsCluster, authority: JwtAuthority, tmp_path: Path, kind: str
) -> None:
    """One that has expired, or that another operator has issued."""
    path = tmp_path / "ams1.creds"
    issuer = JwtAuthority() if kind == "foreign" else authority
    issuer.write_user(path, expires=time.time() - 60 if kind == "expired" else 0)
    began_s = time.monotonic()
    assert "uthoriz" in read(server, path, "nodes/ams1")
    assert time.monotonic() - began_s < 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("BEGIN USER NKEY SEED", "BEGIN SOMETHING", "has no seed of a user"),
        ("\nSU", "\nSUX", "has no seed of a user"),
        (".", "", "has no JWT in the line below"),
    ],
)
def test_broken_files_are_refused(
    authority: JwtAuthority, tmp_path: Path, old: str, new: str, message: str
) -> None:
    """Before anything is connected."""
    path = tmp_path / "ams1.creds"
    authority.write_user(path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(SourceError, match=message):
        NatsConnection(NatsSettings(("nats://127.0.0.1:1",), path))


def read(server: NatsCluster, path: Path, name: str) -> str:
    """Read a document with credentials; return why that failed, empty if it did not."""

    async def run() -> str:
        settings = NatsSettings(server.urls, path)
        try:
            async with NatsConnection(settings, inbox=inbox_of("ams1")) as connection:
                await connection.wait_connected(10)
                await NatsStore(connection, RULES_BUCKET).get(name)
        except SourceError as error:
            return str(error)
        return ""

    return asyncio.run(run())
