"""Ten thousand rules in one daemon: made, read, changed, restarted and removed.

Meanwhile another client's pings are answered in time. How long everything took is printed
(`pytest -s`).
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from tests.support.deadline import wait_until
from tests.support.pinger import Pinger

import mcr

from .checks import assert_balanced, settle_sent
from .daemons import Daemon, memory_kib, serving, sockets
from .lab import Lab
from .traffic import payloads

pytestmark = pytest.mark.alone

RULES = [
    f"239.{2 + number // 250}.{number % 250 + 1}.1%in0:5001 to"
    f" 239.{100 + number // 250}.{number % 250 + 1}.1%out0:6001"
    for number in range(10_000)
]
ONE = mcr.Rule.parse(RULES[5000])
OTHER = mcr.Rule.parse(RULES[9999])
MOST_MIB = 200
MOST_WAITS = len(RULES) // 4
"""How often a restarted worker may wait: each rule takes two requests to the supervisor."""
T = TypeVar("T")


class Undelayed:
    """Does things to a daemon while another client must be answered in time, and prints both."""

    def __init__(self, daemon: Daemon) -> None:
        """Take the daemon."""
        self._daemon = daemon

    def __call__(
        self, what: str, work: Callable[[], T], undo: Callable[[], object] | None = None
    ) -> T:
        """Do it; up to three times, since a busy machine may let any process wait."""
        for again in (True, True, False):
            with Pinger(self._daemon.socket) as pinger:
                done = work()
            pids = self._daemon.processes
            memory = [memory_kib(pid) // 1024 for pid in pids]
            assert max(memory) < MOST_MIB
            pings = f"{pinger.longest_s:.3f} s ({pinger.slowest_s:.3f} s with waits for a CPU)"
            print(f"{what}: {pinger.worked_s:.2f} s, longest ping {pings}, {memory} MiB")
            if pinger.is_prompt:
                break
            assert again, f"{what}: a ping waited for {pinger.longest_s} s"
            if undo is not None:
                undo()
        return done


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Daemon]:
    """A daemon with one worker, on `packet`."""
    lab.set_offload(on=False)
    with serving(lab.relay, "--ingress", "packet") as daemon:
        yield daemon


def test_ten_thousand_rules(lab: Lab, daemon: Daemon) -> None:
    """All operations on all rules or one; afterwards nothing is left."""
    undelayed = Undelayed(daemon)
    with mcr.Client(daemon.socket, timeout_s=60) as client:
        before = sockets(daemon)
        added = undelayed("add", lambda: client.add_rules(RULES), lambda: client.replace_rules([]))
        assert len(added.added) == len(RULES)
        assert all("Linux bridge on the way" in warning for warning in added.warnings)
        assert [str(rule.rule) for rule in undelayed("list", client.rules)] == RULES
        relays(lab, client, ONE, OTHER)
        stats = undelayed("stats", client.stats)
        assert_balanced(stats)
        assert (len(stats.rules), stats.totals.matched) == (len(RULES), 20)
        undelayed("disable and enable one", lambda: disable_and_enable(client, ONE))
        undelayed("remove and add one", lambda: move(client, ONE))
        relays(lab, client, ONE, OTHER)
        undelayed("dry run of a removal", lambda: client.replace_rules([], dry_run=True))
        assert len(client.rules()) == len(RULES)
        undelayed("kill the worker", lambda: kill_worker(daemon, client))
        relays(lab, client, ONE, OTHER)
        stats = undelayed("stats of both incarnations", client.stats)
        assert_balanced(stats)
        assert (len(stats.rules), stats.totals.matched, stats.totals.lost) == (len(RULES), 60, 0)
        undelayed("remove all", lambda: client.replace_rules([]), lambda: client.add_rules(RULES))
        assert len(client.rules()) == 0
        wait_until(lambda: sockets(daemon) == before)
        client.add_rule(ONE)
        relays(lab, client, ONE)


def disable_and_enable(client: mcr.Client, rule: mcr.Rule) -> None:
    """Disable one rule and enable it again."""
    assert client.disable_rule(rule).changed == (rule.id,)
    assert client.enable_rule(rule).changed == (rule.id,)


def move(client: mcr.Client, rule: mcr.Rule) -> None:
    """Remove one rule and add it at the end."""
    assert client.remove_rule(rule).removed == (rule.id,)
    assert [each.id for each in client.add_rule(rule).added] == [rule.id]


def kill_worker(daemon: Daemon, client: mcr.Client) -> None:
    """Kill the worker, and wait until its successor relays."""
    (killed,) = daemon.workers
    os.kill(killed, signal.SIGKILL)

    def is_back() -> bool:
        (worker,) = client.workers()
        return worker.state == "running" and worker.pid != killed

    wait_until(is_back, 30)
    (worker,) = client.workers()
    assert worker.last_death is not None
    assert worker.pid is not None
    waits = voluntary_switches(worker.pid)
    print(f"an outage of {worker.last_death.outage_ms} ms, {waits} waits")
    assert waits < MOST_WAITS


def voluntary_switches(pid: int) -> int:
    """How often the first thread of a process has waited for something (proc_pid_status(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])


class Selection:
    """The statistics of some rules of a daemon; those of all rules take seconds to read."""

    def __init__(self, client: mcr.Client, rules: Sequence[mcr.Rule]) -> None:
        """Take whom to ask, and for which rules."""
        self._client, self._ids = client, [rule.id for rule in rules]

    def stats(self) -> mcr.DaemonStats:
        """The statistics of now."""
        return self._client.stats(self._ids)

    def sent(self) -> list[int]:
        """The copies that each rule has sent."""
        return [rule.outputs[0].sent for rule in self.stats().rules]


def relays(lab: Lab, client: mcr.Client, *rules: mcr.Rule) -> None:
    """Each of these rules relays ten datagrams, all counted."""
    selection = Selection(client, rules)
    before = selection.sent()
    for rule in rules:
        (output,) = rule.outputs
        sent = payloads(10)
        with (
            lab.receive(str(output.address), 6001) as receiver,
            lab.sender(str(rule.input.group), 5001) as sender,
        ):
            sender.send(sent)
            receiver.expect(sent)
    settle_sent(selection, *(count + 10 for count in before))
