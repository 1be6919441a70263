"""An agent without its servers: cut off, slow, stopped, killed, purged. No traffic notices.

The node is the lab's relay; servers are behind a link of its own, `mgmt`.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from tests.support.deadline import wait_until
from tests.support.fleet_agent import AgentProcess, FleetStore, agent_process
from tests.support.nats_cluster import NatsCluster, ServerHost, nats_cluster

from mcr.fleet import NatsSettings
from mcr.fleet.agent import HEARTBEAT_S, PERIOD_S

from .checks import assert_balanced, settle
from .daemons import Daemon, put_first, serving
from .deaths import slowed
from .lab import Lab
from .namespaces import Namespace, Net
from .traffic import NumberedReceiver, PacedFlow

pytestmark = pytest.mark.alone
NODE, DOCUMENT = "ams1", "nodes/ams1"
SERVER, MANAGED = "10.90.0.1", "10.90.0.2"
FEED = "239.1.60.1%in0:5001,name=feed to 239.2.60.1%out0:6001"
OTHER = "239.1.60.2%in0:5001,name=other to 239.2.60.2%out0:6001"
RATE_PPS, SIZE_BYTES = 20_000, 100
SLOW_S, AWAKE_S = 0.5, 0.005
"""What a slow server takes to answer, where a request may take two seconds."""


@dataclass(frozen=True, slots=True)
class Site:
    """A node with its daemon and agent, and the server of its documents."""

    lab: Lab
    core: Namespace
    cluster: NatsCluster
    store: FleetStore
    daemon: Daemon
    agent: AgentProcess

    @property
    def revision(self) -> int:
        """How many changes the daemon has made."""
        with self.daemon.client() as client:
            return client.hello().revision

    @property
    def names(self) -> set[str | None]:
        """The names of the daemon's rules."""
        with self.daemon.client() as client:
            return {rule.name for rule in client.rules()}


@pytest.fixture(scope="module")
def site(net: Net, lab: Lab) -> Iterator[Site]:
    """A node that follows its document."""
    core = net.namespace()
    net.link(core, "node0", lab.relay, "mgmt")
    core.address("node0", f"{SERVER}/24")
    lab.relay.address("mgmt", f"{MANAGED}/24")
    with (
        nats_cluster(1, host=ServerHost(core, SERVER)) as cluster,
        serving(lab.relay) as daemon,
        agent_process(daemon.socket, NODE, "--nats", cluster.url, namespace=lab.relay) as agent,
    ):
        put_first(daemon)
        store = FleetStore(NatsSettings(cluster.urls), core)
        store.create(1)
        yield Site(lab, core, cluster, store, daemon, agent)


@pytest.fixture
def feed(site: Site) -> Iterator[Site]:
    """The node relays a stream, of which not a datagram may be missing at the end."""
    site.store.write(DOCUMENT, FEED)
    site.store.wait_status(NODE, "applied", 1)
    site.agent.forget()
    with (
        NumberedReceiver(site.lab.receiver, "d0", "239.2.60.1", 6001) as receiver,
        site.lab.sender("239.1.60.1", 5001) as sender,
        PacedFlow(sender, RATE_PPS, SIZE_BYTES) as flow,
    ):
        flow.advance(10)
        yield site
        flow.advance(10)
        flow.stop()
        receiver.expect_all(flow)
    assert flow.achieved_pps() > RATE_PPS / 2
    with site.daemon.client() as client:
        stats = settle(client, lambda now: now.rules[0].matched > 0)
    assert stats.totals.lost == 0
    assert_balanced(stats)


@contextlib.contextmanager
def silent(site: Site) -> Iterator[None]:
    """Drop what the node and the server send to each other: neither notices by itself."""
    chains = [
        f"add chain inet cut {hook} {{ type filter hook {hook} priority 0; }}"
        for hook in ("input", "output")
    ]
    rules = [
        f"add rule inet cut input ip saddr {MANAGED} drop",
        f"add rule inet cut output ip daddr {MANAGED} drop",
    ]
    site.core.run("nft", "; ".join(["add table inet cut", *chains, *rules]))
    try:
        yield
    finally:
        site.core.run("nft", "delete table inet cut")


@contextlib.contextmanager
def unplugged(site: Site) -> Iterator[None]:
    """Take the carrier from the node's link to the server."""
    with site.core.down("node0"):
        yield


def has_missed_a_heartbeat(site: Site) -> bool:
    """Whether the last report of the node is older than it ever is."""
    return bool(time.time() - site.store.status(NODE)["at"] > HEARTBEAT_S + 1)


def notices(site: Site) -> bool:
    """Whether the agent has noticed that no server answers."""
    site.agent.wait_for("the rules stay as read")
    return True


@pytest.mark.parametrize(
    ("cut", "is_over"), [(silent, has_missed_a_heartbeat), (unplugged, notices)]
)
def test_a_node_that_was_cut_off_takes_the_newest_revision(
    feed: Site,
    cut: Callable[[Site], contextlib.AbstractContextManager[None]],
    is_over: Callable[[Site], bool],
) -> None:
    """In one change: no document that was replaced meanwhile is ever applied."""
    before = feed.revision
    with cut(feed):
        for number in range(3):
            passing = (
                f"239.1.60.{10 + number}%in0:5001,name=passing-{number} to 239.2.60.9%out0:6001"
            )
            feed.store.write(DOCUMENT, FEED, passing)
        feed.store.write(DOCUMENT, FEED, OTHER)
        wait_until(lambda: is_over(feed), 30, what="the end of the cut")
        assert feed.names == {"feed"}
    began_s = time.monotonic()
    feed.store.wait_status(NODE, "applied", 2)
    print(f"the newest revision {time.monotonic() - began_s:.1f} s after the cut")
    assert feed.names == {"feed", "other"}
    assert feed.revision == before + 1
    with (
        feed.lab.receive("239.2.60.2", 6001) as receiver,
        feed.lab.sender("239.1.60.2", 5001) as sender,
    ):
        sender.send([b"one"])
        receiver.expect([b"one"])


def test_a_server_that_stops_for_seconds_is_waited_for(feed: Site) -> None:
    """The agent says that nothing was read, and follows once the server answers again."""
    server = feed.cluster.pid(0)
    os.kill(server, signal.SIGSTOP)
    try:
        feed.agent.wait_for("no server answered in 2 s; the rules stay as read")
        assert feed.names == {"feed"}
    finally:
        os.kill(server, signal.SIGCONT)
    feed.store.write(DOCUMENT, FEED, OTHER)
    feed.store.wait_status(NODE, "applied", 2)
    assert feed.names == {"feed", "other"}


def test_a_server_that_was_killed_is_waited_for(feed: Site) -> None:
    """Its documents are there again after its start, and what comes then is applied."""
    feed.cluster.kill()
    feed.agent.wait_for("the rules stay as read")
    assert feed.names == {"feed"}
    feed.cluster.start()
    feed.cluster.wait_ready()
    feed.store.write(DOCUMENT, FEED, OTHER)
    feed.store.wait_status(NODE, "applied", 2)
    assert feed.names == {"feed", "other"}


def test_a_slow_server_delays_changes_only(feed: Site) -> None:
    """It may take any time below the limit of a request: the agent has nothing to warn of."""
    with slowed(feed.cluster.pid(0), stopped_s=SLOW_S, running_s=AWAKE_S):
        for rules in ((FEED, OTHER), (FEED,), (FEED, OTHER)):
            feed.store.write(DOCUMENT, *rules)
            status = feed.store.wait_status(NODE, "applied", len(rules))
            assert status["at"] - status["documents_at"] < 2 * SLOW_S + PERIOD_S
    assert feed.names == {"feed", "other"}
    feed.agent.read_log()
    assert "warning" not in feed.agent.log


def test_history_that_was_removed_meanwhile_is_not_needed(feed: Site) -> None:
    """Nor does a document whose texts are all removed take a rule away."""
    before = feed.revision
    with unplugged(feed):
        feed.store.write(DOCUMENT, FEED, FEED.replace("60.1%in0", "60.3%in0"))
        feed.store.write(DOCUMENT, FEED, OTHER)
        feed.store.remove_history(DOCUMENT)
    feed.store.wait_status(NODE, "applied", 2)
    assert feed.revision == before + 1
    with unplugged(feed):
        feed.store.purge(DOCUMENT)
    feed.agent.wait_for("is not in the store any more; its rules stay")
    assert feed.names == {"feed", "other"}
    assert feed.revision == before + 1
    feed.store.write(DOCUMENT, FEED)
    feed.store.wait_status(NODE, "applied", 1)
    assert feed.names == {"feed"}
