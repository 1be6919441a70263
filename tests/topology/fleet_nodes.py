"""Real nodes of a fleet, each a namespace with a daemon and an agent, at a bridge with the servers.

`python -m tests.topology.fleet_nodes 20` measures how long one revision takes to all of them, and
what their agents use while nothing changes.

    core   10.93.0.1, the servers, a sender and a receiver    core0
    n1     10.93.1.1, n2 10.93.1.2 and so on                  eth0
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.support.deadline import wait_until
from tests.support.fleet_agent import MCR, AgentProcess, FleetStore, agent_process
from tests.support.nats_cluster import NatsCluster, ServerHost, nats_cluster

from mcr.fleet import Fleet, FleetDocument, NatsSettings
from mcr.fleet.rollout import FleetResult

from .daemons import Daemon, cpu_s, memory_kib, proportional_kib, serving
from .namespaces import Namespace, Net, remove_leftovers
from .rights import missing
from .traffic import Receiver, Sender, payloads

CORE = "10.93.0.1"
LABEL, DOCUMENT = "site=all", "labels/site=all"
GROUP, PORT, COUNT = "239.1.93.1", 5001, 50
RULE = f"{GROUP}%eth0:{PORT},name=feed to {CORE}:7000"
READY_S = 60.0
MEMORY_MIB, IDLE_SHARE, IDLE_S = 80, 0.01, 60.0
"""What an agent may use: memory, and processor time while nothing changes."""
AT_ONCE = 3
"""Daemons that start at a time: their processes have to answer within limits of their own."""


@dataclass(slots=True)
class RealNode:
    """One node."""

    name: str
    host: Namespace
    daemon: Daemon
    agent: AgentProcess

    def kill(self) -> None:
        """End all its processes by SIGKILL: as for the others, its host has lost its power."""
        processes = self.daemon.processes
        self.agent.kill()
        for pid in processes:  # the supervisor first, which would restart the others
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.daemon.process.wait()


@dataclass(frozen=True, slots=True)
class RealFleet:
    """The servers and all nodes."""

    core: Namespace
    cluster: NatsCluster
    nodes: tuple[RealNode, ...]
    _processes: contextlib.ExitStack

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the nodes, sorted."""
        return tuple(sorted(each.name for each in self.nodes))

    def node(self, name: str) -> RealNode:
        """The node of this name."""
        (found,) = [each for each in self.nodes if each.name == name]
        return found

    def revive(self, node: RealNode) -> None:
        """Start the daemon and the agent of a node that was killed."""
        daemon = serving(node.host, socket=node.daemon.socket)
        node.daemon = self._processes.enter_context(daemon)
        agent = _agent(node.name, node.host, node.daemon, self.cluster)
        node.agent = self._processes.enter_context(agent)

    def command(self, *words: str, code: int = 0) -> str:
        """Run `mcr fleet` beside the servers; return what it prints."""
        command = self.core.command(MCR, "fleet", *words, "--nats", self.cluster.url)
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert run.returncode == code, run.stdout + run.stderr
        return run.stdout

    def apply(self, *rules: str) -> tuple[FleetResult, float]:
        """Write the document of all nodes and wait for them; return also the seconds it took."""

        async def apply() -> tuple[FleetResult, float]:
            async with Fleet(NatsSettings(self.cluster.urls)) as fleet:
                text = f"rules = {json.dumps(rules)}\n"
                plan = await fleet.plan([FleetDocument(DOCUMENT, text)])
                began_s = time.monotonic()
                result = await fleet.apply(plan)
                return result, time.monotonic() - began_s

        with self.core:
            return asyncio.run(apply())


@contextlib.contextmanager
def real_fleet(net: Net, count: int, *, servers: int = 1) -> Iterator[RealFleet]:
    """Run nodes that have all reported."""
    core = net.namespace()
    core.ip("link", "add", "core0", "type", "bridge", "mcast_snooping", "0")
    core.address("core0", f"{CORE}/16")
    core.set_up("core0", up=True)
    hosts = [_host(net, core, number) for number in range(1, 1 + count)]
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(nats_cluster(servers, host=ServerHost(core, CORE)))
        FleetStore(NatsSettings(cluster.urls), core).create(servers)
        daemons = list[Daemon]()
        for first in range(0, count, AT_ONCE):
            some = hosts[first : first + AT_ONCE]
            daemons += [stack.enter_context(serving(host, awaits_ready=False)) for host in some]
            for daemon in daemons[first:]:
                daemon.wait_for("ready", READY_S)
        nodes = []
        for number, (host, daemon) in enumerate(zip(hosts, daemons, strict=True), 1):
            agent = stack.enter_context(_agent(f"n{number}", host, daemon, cluster))
            nodes.append(RealNode(f"n{number}", host, daemon, agent))
        fleet = RealFleet(core, cluster, tuple(nodes), stack)
        wait_until(lambda: _reported(fleet) == fleet.names, READY_S, what="reports of all nodes")
        yield fleet


def check_traffic(fleet: RealFleet) -> None:
    """Every node relays the stream once, and each counts what it sends."""
    sent = payloads(COUNT, (200,))
    with (
        Receiver(fleet.core, "core0", CORE, 7000) as receiver,
        Sender(fleet.core, "core0", GROUP, PORT) as sender,
    ):
        sender.send(sent)
        receiver.wait_for(COUNT * len(fleet.nodes))
        sources = Counter(address for address, _ in receiver.sources)
    assert sources == {f"10.93.1.{number}": COUNT for number in range(1, 1 + len(fleet.nodes))}
    assert Counter(receiver.collected) == Counter(sent * len(fleet.nodes))


def main() -> int:
    """Measure; the number of nodes is the only argument."""
    if reason := missing():
        print(f"real nodes need namespaces: {reason}", file=sys.stderr)
        return 1
    remove_leftovers()
    count = int(sys.argv[1]) if sys.argv[1:] else 20
    with Net() as net, real_fleet(net, count, servers=3) as fleet:
        times = []
        for change in range(5):
            result, seconds = fleet.apply(RULE, f"239.1.94.{1 + change}%eth0:5001 to {CORE}:7001")
            assert result.applied == fleet.names, result
            times.append(seconds)
        check_traffic(fleet)
        print(f"{count} nodes: one revision has reached all after", end=" ")
        print(", ".join(f"{each:.2f}" for each in sorted(times)), "s")
        return _idle_code([each.agent.pid for each in fleet.nodes])


def _idle_code(agents: Sequence[int]) -> int:
    """Measure agents while nothing changes; 1 if one of them uses more than it may."""
    before_s = [cpu_s(each) for each in agents]
    time.sleep(IDLE_S)  # what passes without any event is what is measured
    after_s = [cpu_s(each) for each in agents]
    shares = [(end - start) / IDLE_S for start, end in zip(before_s, after_s, strict=True)]
    resident = [memory_kib(each) / 1024 for each in agents]
    own = [proportional_kib(each) / 1024 for each in agents]
    print(f"an agent uses while nothing changes, over {IDLE_S:.0f} s:")
    for what, numbers, unit, limit in (
        ("processor time", [100 * each for each in shares], "% of a core", 100 * IDLE_SHARE),
        ("resident memory (RSS)", resident, "MiB", MEMORY_MIB),
        ("proportional share of it (PSS)", own, "MiB", MEMORY_MIB),
    ):
        median = sorted(numbers)[len(numbers) // 2]
        print(f"  {what}: median {median:.2f}, most {max(numbers):.2f} of {limit:.0f} {unit}")
    return int(max(resident) > MEMORY_MIB or max(shares) > IDLE_SHARE)


def _reported(fleet: RealFleet) -> tuple[str, ...]:
    found = json.loads(fleet.command("nodes", "--json"))
    return tuple(sorted(each["node"] for each in found))


def _agent(
    name: str, host: Namespace, daemon: Daemon, cluster: NatsCluster
) -> contextlib.AbstractContextManager[AgentProcess]:
    options = ("--nats", cluster.url, "--label", LABEL)
    return agent_process(daemon.socket, name, *options, namespace=host)


def _host(net: Net, core: Namespace, number: int) -> Namespace:
    host = net.namespace()
    net.link(core, f"p{number}", host, "eth0")
    core.ip("link", "set", f"p{number}", "master", "core0")
    host.address("eth0", f"10.93.1.{number}/16")
    return host


if __name__ == "__main__":
    sys.exit(main())
