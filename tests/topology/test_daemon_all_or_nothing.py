"""Two workers, and a change that one of them cannot make: none of it is made."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import settle
from .daemons import Daemon, serving, sockets
from .lab import Lab
from .relays import Ingress
from .test_memberships import joined, packet_sockets, udp_sockets
from .traffic import payloads

KEPT = "239.1.72.1%in0:5001 to 239.2.72.1%out0:6001"
NEW = [
    "239.1.72.2%big:5001 to 239.2.72.2%out0:6001 239.2.72.3%out1:6001",
    "10.1.0.9@232.1.72.3%in0:5001 to 239.2.72.4%out0:6001",
    "ff15::72:1%in0:5001 to ff15::72:2%out0:6001",
    "239.1.72.1%in0:5000-5009 to 239.2.72.5%out1:6001",
]
FLOWS = 16
DATAGRAMS = 20


@dataclass(frozen=True)
class Standing:
    """Everything that a change may leave behind, as daemon and kernel show it."""

    revision: int
    rules: list[tuple[str, bool]]
    counted: list[tuple[str, int, int]]
    descriptors: list[int]
    joined: set[tuple[str, ...]]
    packet_sockets: int
    udp_sockets: int

    @classmethod
    def of(cls, lab: Lab, daemon: Daemon, client: mcr.Client) -> "Standing":
        """Look."""
        listed, stats = client.rules(), client.stats()
        return cls(
            listed.revision,
            [(rule.id, rule.enabled) for rule in listed],
            [(rule.id, rule.matched, rule.outputs[0].sent) for rule in stats.rules],
            sockets(daemon),
            joined(lab.relay),
            packet_sockets(lab.relay),
            udp_sockets(lab.relay),
        )


@contextlib.contextmanager
def few_descriptors(pid: int, spare: int) -> Iterator[None]:
    """Let a process open so few more for the time of the block (RLIMIT_NOFILE).

    As its own user, since the kernel allows that without CAP_SYS_RESOURCE.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    uid, gid = (int(status.split(f"\n{name}:")[1].split()[0]) for name in ("Uid", "Gid"))
    limits = Path(f"/proc/{pid}/limits").read_text()
    before = limits.split("Max open files")[1].split()[0]

    def set_limit(most: int | str) -> None:
        command = ["prlimit", "--pid", str(pid), f"--nofile={most}:"]
        subprocess.run(command, user=uid, group=gid, extra_groups=[], cwd="/", check=True)

    highest = max(int(number) for number in os.listdir(f"/proc/{pid}/fd"))
    set_limit(highest + 1 + spare)
    try:
        yield
    finally:
        set_limit(before)


@pytest.fixture(scope="module", params=["packet", "udp"])
def ingress(request: pytest.FixtureRequest) -> Ingress:
    """Both ingresses, with a daemon for each."""
    kind: Ingress = request.param
    return kind


@pytest.fixture(scope="module")
def shared_daemon(lab: Lab, ingress: Ingress) -> Iterator[Daemon]:
    """Two workers."""
    lab.set_offload(on=False)
    with serving(lab.relay, "--ingress", ingress, "--workers", "2") as daemon:
        yield daemon


@pytest.fixture
def daemon(shared_daemon: Daemon) -> Daemon:
    """The same, without rules."""
    with shared_daemon.client() as client:
        client.replace_rules([])
    return shared_daemon


def relays_flows(lab: Lab, client: mcr.Client, rule: str, interface: str = "s0") -> None:
    """Many flows, and so through both workers, are relayed completely and in order."""
    wanted = mcr.Rule.parse(rule)
    (output, *_), group = wanted.outputs, str(wanted.input.group)

    def sent(stats: mcr.Stats) -> int:
        return sum(each.outputs[0].sent for each in stats.rules if each.id == wanted.id)

    before = sent(client.stats())
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(lab.receive(str(output.address), 6001))
        for number in range(FLOWS):
            sender = stack.enter_context(lab.sender(group, 5001, interface=interface))
            flow = [bytes([number]) + body for body in payloads(DATAGRAMS, (200,))]
            sender.send(flow)
            receiver.wait_for((number + 1) * DATAGRAMS)
            assert [each for each in receiver.collected if each[0] == number] == flow
        settle(client, lambda stats: sent(stats) == before + FLOWS * DATAGRAMS)


@pytest.mark.parametrize(
    ("victim", "spare", "replaces"),
    [(0, 0, False), (1, 2, False), (0, 2, True), (1, 0, True)],
    ids=["add-0", "add-1", "replace-0", "replace-1"],
)
def test_a_lack_of_descriptors_in_one_worker_aborts_the_change(
    lab: Lab, daemon: Daemon, victim: int, spare: int, replaces: bool
) -> None:
    """The error names the limit; the change succeeds later."""
    with daemon.client() as client:
        client.add_rule(KEPT)
        relays_flows(lab, client, KEPT)
        workers = daemon.workers
        before = Standing.of(lab, daemon, client)
        change = client.replace_rules if replaces else client.add_rules
        with few_descriptors(workers[victim], spare):
            for _ in range(3):
                with pytest.raises(mcr.DaemonError, match=r"descriptors.* raise it"):
                    change(NEW)
        assert_unchanged(lab, daemon, client, before)
        relays_flows(lab, client, KEPT)
        change(NEW)
        relays_flows(lab, client, NEW[0], "s1")
        client.replace_rules([KEPT])
        wait_until(lambda: sockets(daemon) == before.descriptors)
        assert daemon.workers == workers


@pytest.mark.parametrize("ingress", ["udp"], indirect=True)
def test_a_port_in_use_aborts_the_change(lab: Lab, daemon: Daemon) -> None:
    """An input belongs to one worker; if it cannot bind, the other keeps nothing."""
    rules = [f"10.1.0.1%in0:{port} to 239.2.72.6%out0:6001" for port in range(5101, 5109)]
    with daemon.client() as client:
        client.add_rule(KEPT)
        before = Standing.of(lab, daemon, client)
        for rule in rules:
            port = mcr.Rule.parse(rule).input.port
            assert isinstance(port, int)
            with lab.relay, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
                taken.bind(("10.1.0.1", port))
                with pytest.raises(mcr.InterfaceError, match="another program has this port"):
                    client.add_rules([*NEW, rule])
            assert_unchanged(lab, daemon, client, before)
        client.add_rules(rules)
        relays_flows(lab, client, KEPT)
        client.replace_rules([KEPT])
        wait_until(lambda: sockets(daemon) == before.descriptors)


def test_an_interface_that_is_deleted_during_changes(lab: Lab, daemon: Daemon) -> None:
    """Created and deleted while rules that name it are added: both workers end equal."""
    with daemon.client() as client:
        client.add_rule(KEPT)
        before = sockets(daemon)
        for _ in range(10):
            lab.relay.ip("link", "add", "gone", "up", "type", "veth", "peer", "name", "gone2")
            client.add_rules(NEW)
            deleting = subprocess.Popen(lab.relay.command("ip", "link", "del", "gone"))
            with contextlib.suppress(mcr.McrError):
                client.add_rule("239.1.72.9%gone:5001 to 239.2.72.9%out0:6001")
            assert deleting.wait(10) == 0
            relays_flows(lab, client, NEW[0], "s1")
            client.replace_rules([KEPT])
            wait_until(lambda: sockets(daemon) == before)
        relays_flows(lab, client, KEPT)
        assert [worker.deaths for worker in client.workers()] == [0, 0]


def assert_unchanged(lab: Lab, daemon: Daemon, client: mcr.Client, before: Standing) -> None:
    """Nothing has changed; sockets may be closed a moment later."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: Standing.of(lab, daemon, client) == before, 3)
    assert Standing.of(lab, daemon, client) == before
