"""What the generated permissions allow on a real server, TLS, and where secrets are."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tests.support.certificates import write_certificates
from tests.support.fleet_agent import FleetStore, agent_process
from tests.support.nats_cluster import NatsCluster, nats_cluster
from tests.support.own_command import mcr_here
from tests.topology.daemons import serving

from mcr.fleet import NatsSettings, NatsSource, NodeIdentity, SourceError
from mcr.fleet.nats_connection import NatsConnection
from mcr.fleet.nats_source import inbox_of
from mcr.fleet.nats_store import RULES_BUCKET, STATUS_BUCKET, NatsStore
from mcr.fleet.permissions import write_permissions

INVENTORY = '[ams1]\nlabels = { site = "ams" }\n["fra1.example"]\n'
RULE = "239.79.1.1%lo:5071 to 127.0.0.1:7071"
Attempt = Callable[[NatsStore, NatsStore], Awaitable[object]]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys and accounts of two nodes, made by the command."""
    directory = tmp_path_factory.mktemp("keys")
    (directory / "nodes.toml").write_text(INVENTORY)
    command = ("fleet", "permissions", directory / "nodes.toml", directory / "out")
    assert len(mcr_here(*command).out.splitlines()) == 4
    assert mcr_here(*command).out == f"{directory / 'out' / 'accounts.conf'}\n"
    return directory / "out"


@pytest.fixture(scope="module")
def server(keys: Path) -> Iterator[NatsCluster]:
    """A server with these accounts, with a document for each node and one for a label."""
    with nats_cluster(1, (keys / "accounts.conf").read_text()) as made:
        store = FleetStore(NatsSettings(made.urls, keys / "admin.seed"))
        store.create(1)
        for name in ("nodes/ams1", "nodes/fra1.example", "labels/site=ams", "labels/site=fra"):
            store.write(name)
        yield made


def attempt(server: NatsCluster, seed: Path | None, node: str, do: Attempt) -> object:
    """Do something with the credentials of a node."""

    async def run() -> object:
        settings = NatsSettings(server.urls, seed)
        async with NatsConnection(settings, inbox=inbox_of(node)) as connection:
            await connection.wait_connected(5)
            stores = NatsStore(connection, RULES_BUCKET), NatsStore(connection, STATUS_BUCKET)
            return await do(*stores)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "do",
    [
        lambda rules, _: rules.get("nodes/ams1"),
        lambda rules, _: rules.get("labels/site=ams"),
        lambda _, status: status.put("ams1", "{}"),
    ],
)
def test_a_node_has_its_own(server: NatsCluster, keys: Path, do: Attempt) -> None:
    """Its documents, those of its labels, its status."""
    assert attempt(server, keys / "ams1.seed", "ams1", do)


@pytest.mark.parametrize(
    "do",
    [
        lambda rules, _: rules.get("nodes/fra1.example"),
        lambda rules, _: rules.get("labels/site=fra"),
        lambda rules, _: rules.put("nodes/ams1", "rules = []"),
        lambda rules, _: rules.put("labels/site=ams", "rules = []"),
        lambda rules, _: rules.entries(),
        lambda rules, _: rules.create(1, 1, None),
        lambda _, status: status.put("fra1.example", "{}"),
        lambda _, status: status.get("fra1.example"),
        lambda _, status: status.entries(),
    ],
)
def test_a_node_has_nothing_else(server: NatsCluster, keys: Path, do: Attempt) -> None:
    """Each attempt is refused by the server, and the error says what was not permitted."""
    with pytest.raises(SourceError, match=r"[Pp]ermissions [Vv]iolation"):
        attempt(server, keys / "ams1.seed", "ams1", do)


def test_a_node_cannot_listen_to_others(server: NatsCluster, keys: Path) -> None:
    """Neither to documents, nor to what servers answer other nodes."""

    async def run() -> None:
        refusals = []
        for subject in ("$KV.>", "$KV.mcr-rules.nodes.fra1=2Eexample", "_INBOX_fra1=2Eexample.>"):
            settings = NatsSettings(server.urls, keys / "ams1.seed")
            connection = NatsConnection(settings, inbox=inbox_of("ams1"))
            connection.subscriptions[subject] = lambda _: None
            async with connection:
                await connection.wait_connected(5)
                await connection.client.flush()
                while connection.refusal is None:
                    await asyncio.sleep(0.01)
                refusals.append(connection.refusal)
        assert all("subscription" in each.lower() for each in refusals)

    asyncio.run(asyncio.wait_for(run(), 20))


def test_without_a_key_nothing_is_permitted(server: NatsCluster, tmp_path: Path) -> None:
    """No connection, with no key or one that the server does not know."""
    write_permissions(tmp_path, [NodeIdentity("ams1")])
    for seed in (None, tmp_path / "ams1.seed"):
        with pytest.raises(SourceError, match=r"(?i)authorization violation"):
            attempt(server, seed, "ams1", lambda rules, _: rules.get("nodes/ams1"))


def test_secrets_are_in_their_files_only(server: NatsCluster, keys: Path, tmp_path: Path) -> None:
    """Not in the configuration of servers, the command line, the log or the state of an agent."""
    seeds = [path.read_text().strip() for path in keys.glob("*.seed")]
    assert len(seeds) == 3
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in keys.glob("*.seed"))
    store = FleetStore(NatsSettings(server.urls, keys / "admin.seed"))
    store.write("nodes/ams1", RULE)
    options = ("--nats", server.url, "--creds", str(keys / "ams1.seed"), "--label", "site=ams")
    state = tmp_path / "state.json"
    with (
        serving(None, "--ingress", "udp") as daemon,
        agent_process(daemon.socket, "ams1", *options, "--state", str(state)) as agent,
    ):
        store.wait_status("ams1", "applied", 1)
        process = Path(f"/proc/{agent.pid}")
        seen = process.joinpath("cmdline").read_text() + agent.log + state.read_text()
        seen += (keys / "accounts.conf").read_text() + server.log()
        assert not [seed for seed in seeds if seed in seen]
        with agent_process(daemon.socket, "lon1", *options) as foreign:
            foreign.wait_for("ermissions violation")


@pytest.mark.parametrize("extra", [(), ("--label", "site=fra")])
def test_a_label_without_permission_applies_nothing(
    server: NatsCluster, keys: Path, extra: tuple[str, ...]
) -> None:
    """Half of the documents of a node would be worse than those that it has."""
    node = NodeIdentity("ams1", (("site", "fra"),) if extra else ())

    async def read() -> int:
        settings = NatsSettings(server.urls, keys / "ams1.seed")
        async with NatsSource(settings, node) as source:
            await source.wait_for_change(10)
            return len(await source.read())

    if extra:
        with pytest.raises(SourceError, match=r"(?i)permissions violation"):
            asyncio.run(read())
    else:
        assert asyncio.run(read()) == 1


def test_tls_is_checked(tmp_path: Path) -> None:
    """The server's certificate, the client's, and that there is TLS at all."""
    authority = write_certificates(tmp_path / "own", "server", "client")
    foreign = write_certificates(tmp_path / "foreign", "client")
    own = authority.parent
    tls = (
        f'tls {{ cert_file: "{own}/server.pem", key_file: "{own}/server.key",'
        f' ca_file: "{authority}", verify: true }}'
    )
    certificate = own / "client.pem", own / "client.key"
    others = foreign.parent / "client.pem", foreign.parent / "client.key"
    with nats_cluster(1, tls) as secured, nats_cluster(1) as plain:
        (url,) = secured.urls
        url = url.replace("nats:", "tls:")
        assert connects(NatsSettings((url,), None, authority, *certificate)) is None
        refused = {
            "certificate": NatsSettings((url,), None, authority),
            "unknown ca": NatsSettings((url,), None, authority, *others),
            "verify failed": NatsSettings((url,), None, foreign, *certificate),
            "offers no TLS": NatsSettings(plain.urls, None, authority),
        }
        reasons = {expected: connects(settings) for expected, settings in refused.items()}
        assert all(reasons.values()), reasons
        assert "offers no TLS" in str(reasons["offers no TLS"])
        assert "verify failed" in str(reasons["verify failed"])
        options = ["--nats", url, "--tls-ca", authority]
        options += ["--tls-cert", certificate[0], "--tls-key", certificate[1]]
        assert mcr_here("fleet", "create", "--replicas", "1", *options).code == 0
        assert json.loads(mcr_here("fleet", "nodes", "--json", *options).out) == []


def connects(settings: NatsSettings) -> str | None:
    """None if a connection is made and used, else why not."""

    async def run() -> str | None:
        async with NatsConnection(settings) as connection:
            try:
                await connection.wait_connected(3)
                await connection.client.flush()
            except (SourceError, OSError) as error:
                return str(error)
            return None

    return asyncio.run(run())
