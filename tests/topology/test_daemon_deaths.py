"""Workers that are killed or stopped, and the consequences for their and other flows."""

import contextlib
import itertools
import json
import re
import time
from collections.abc import Sequence
from typing import Any

import pytest
from tests.support.deadline import wait_until
from tests.support.own_command import mcr_here
from tests.support.processes import is_running

import mcr

from .checks import assert_balanced, settle, settle_sent
from .daemons import Daemon, serving
from .deaths import Leaves, OutageLimit, kill, lost, stopped
from .lab import Lab
from .relays import Ingress
from .test_memberships import igmp
from .traffic import PacedFlow, Sender, payloads

pytestmark = pytest.mark.alone

FLOWS = 6
RATE_PPS = 800  # of each
TRIES = 10
ONE = "239.1.92.1%in0:5001 to 239.2.92.1%out0:6001"


class Flows:
    """A rule, a sender and a receiver for each flow."""

    cases = itertools.count()

    def __init__(self, lab: Lab, stack: contextlib.ExitStack) -> None:
        self.probes = 0
        # Groups of its own: IGMPv3 repeats a leave up to a second later (RFC 3376, 5.1), so those
        # of one case would be heard in the next.
        case = next(self.cases)
        self.groups = [f"239.{10 + case}.91.{number}" for number in range(1, FLOWS + 1)]
        self.rules = [
            f"{group}%in0:5001 to 239.2.91.{number}%out0:6001"
            for number, group in enumerate(self.groups, 1)
        ]
        self.receivers = [
            stack.enter_context(lab.receive(f"239.2.91.{number}", 6001))
            for number in range(1, FLOWS + 1)
        ]
        self._lab, self._stack = lab, stack
        self.senders = self._open()

    def _open(self) -> list[Sender]:
        return [self._stack.enter_context(self._lab.sender(group, 5001)) for group in self.groups]

    def shared_with(self, worker: int) -> list[int]:
        """Which flows go through a worker; some do, and some do not.

        Which these are is the kernel's business on `packet`, and changes with the source ports.
        """
        while not 0 < len(found := self._through(worker)) < FLOWS:
            assert self.probes < TRIES, "all flows go through one worker"
            self.senders = self._open()
        return found

    def _through(self, worker: int) -> list[int]:
        """The flows that stop while the worker is stopped."""
        with stopped(worker):
            for sender in self.senders:
                sender.send([b"probe"])
            time.sleep(0.3)  # which nothing can show earlier: that something does not come
            found = [at for at, each in enumerate(self.receivers) if not each.drain()]
        for receiver in self.receivers:
            receiver.wait_for(1)
            receiver.forget()
        self.probes += 1
        return found


def matched(stats: mcr.DaemonStats) -> list[int]:
    """The datagrams that each rule has matched."""
    return [rule.matched for rule in stats.rules]


def watch_a_death(daemon: Daemon, client: mcr.Client, flows: Sequence[PacedFlow]) -> None:
    """Kill worker 0 under load; meanwhile counters only grow, and balance."""
    flows[0].advance(RATE_PPS // 2)
    kill(daemon.workers[0])
    before = [0] * FLOWS
    until = len(flows[0].sent) + RATE_PPS
    while len(flows[0].sent) < until:
        stats = client.stats()
        assert_balanced(stats)
        now = matched(stats)
        assert all(one >= other for one, other in zip(now, before, strict=True)), "went back"
        before = now
        time.sleep(0.02)


def agree_with_counters(client: mcr.Client, ends: Flows, its: Sequence[int]) -> None:
    """What arrived is what was counted, except for the dead worker's last turn."""
    stats = settle(client, lambda stats: not stats.stale_workers)
    for one, rule in enumerate(stats.rules):
        sent = rule.outputs[0].sent - ends.probes
        arrived = len(ends.receivers[one].collected)
        # What a turn has sent and could not publish any more is not counted.
        assert arrived - RATE_PPS // 10 <= sent <= arrived
        assert sent == arrived or one in its


def test_a_killed_worker_costs_a_moment_of_its_flows(lab: Lab, ingress: Ingress, gro: bool) -> None:
    """At most half a second, and nothing of other flows; ports and memberships stay."""
    del gro  # switched
    with (
        serving(lab.relay, "--ingress", ingress, "--workers", "2") as daemon,
        daemon.client() as client,
        Leaves(lab.source, "s0") as leaves,
        contextlib.ExitStack() as stack,
    ):
        ends = Flows(lab, stack)
        client.add_rules(ends.rules)
        its = ends.shared_with(daemon.workers[0])
        settle(client, lambda stats: matched(stats) == [ends.probes] * FLOWS)
        with contextlib.ExitStack() as sending:
            flows = [sending.enter_context(PacedFlow(sender, RATE_PPS)) for sender in ends.senders]
            limit = OutageLimit(daemon)
            watch_a_death(daemon, client, flows)
            limit.end()
            assert {("in0", group) for group in ends.groups} <= igmp(lab.relay)
        missing = []
        for flow, receiver in zip(flows, ends.receivers, strict=True):
            receiver.wait_for_payload(flow.sent[-1])
            assert len(set(receiver.sources)) == 1, "the source port has changed"
            missing.append(lost(flow.sent, receiver))
        assert max(missing) <= RATE_PPS * limit.ms / 1000, missing
        assert not any(count for at, count in enumerate(missing) if at not in its), missing
        agree_with_counters(client, ends, its)
        death = client.workers()[0].last_death
        assert death is not None
        assert death.cause == "killed by SIGKILL"
        assert death.outage_ms is not None
        assert death.outage_ms <= limit.ms
        groups = set(ends.groups)
        assert not leaves.heard() & groups
        client.remove_rules([rule.id for rule in client.rules()])
        wait_until(lambda: leaves.heard(0.1) >= groups)


def test_repeated_deaths_delay_the_restart_and_keep_the_queue(lab: Lab, ingress: Ingress) -> None:
    """By 0, 250 and 500 ms: queued datagrams are then relayed once and in order."""
    with (
        serving(lab.relay, "--ingress", ingress) as daemon,
        daemon.client() as client,
        client.events(["worker"]) as events,
        lab.receive("239.2.92.1", 6001) as receiver,
        lab.sender("239.1.92.1", 5001) as sender,
    ):
        client.add_rule(ONE)
        datagrams: list[bytes] = []
        for deaths, wait_ms in enumerate((0, 250, 500), 1):
            pid = daemon.workers[0]
            kill(pid)
            new = payloads(200, (200,), seed=deaths)
            datagrams += new
            sender.send(new)
            died = next(event for event in events if event.event == "died")
            assert died.fields["pid"] == pid
            assert "SIGKILL" in died.fields["cause"]
            if wait_ms > 0:  # by the time when this was told a part of it may be over
                (said_ms,) = re.findall(r"worker 0 starts again in (\d+) ms", next(events).text)
                assert wait_ms / 2 < int(said_ms) <= wait_ms
            wait_until(lambda: client.ping().workers.running == 1)
            (worker,) = client.workers()
            assert (worker.deaths, worker.incarnation) == (deaths, deaths + 1)
            assert worker.last_death is not None
            assert worker.last_death.outage_ms is not None
            assert wait_ms <= worker.last_death.outage_ms < wait_ms + 2000
            receiver.expect(datagrams)
            # Killed before it has published this turn, it would leave a part of it uncounted.
            settle_sent(client, len(datagrams))
        wait_until(lambda: listed_worker(daemon)["last_death"]["missed_frames"] == 0)
        assert listed_worker(daemon)["deaths"] == 3


def test_a_stopped_worker_is_noticed_and_replaced(lab: Lab, ingress: Ingress) -> None:
    """After 3 s; it is silent after 1 s, and its counters are read until then."""
    with (
        serving(lab.relay, "--ingress", ingress) as daemon,
        daemon.client() as client,
        lab.receive("239.2.92.1", 6001) as receiver,
        lab.sender("239.1.92.1", 5001) as sender,
    ):
        client.add_rule(ONE)
        datagrams = payloads(400, (200,))
        sender.send(datagrams[:200])
        receiver.expect(datagrams[:200])
        settle(client, lambda stats: matched(stats) == [200])
        (pid,) = daemon.workers
        with stopped(pid):
            began_s = time.monotonic()
            sender.send(datagrams[200:])
            while time.monotonic() < began_s + 2:
                asked_s = time.monotonic()
                stats = client.stats()
                assert time.monotonic() - asked_s < 1
                assert (matched(stats), stats.stale_workers) == ([200], ())
            assert client.workers()[0].state == "silent"
            wait_until(lambda: client.workers()[0].deaths == 1)
            assert 2 < time.monotonic() - began_s < 5
            receiver.expect(datagrams)
        settle(client, lambda stats: (matched(stats), stats.stale_workers) == ([400], ()))
        (worker,) = client.workers()
        assert worker.last_death is not None
        assert worker.last_death.cause == "did not answer for 3 s"
        assert not is_running(pid)


def listed_worker(daemon: Daemon) -> dict[str, Any]:
    """The only worker as `mcr workers` shows it, as a table and as JSON."""
    command = ("workers", "--socket", daemon.socket)
    assert "killed by SIGKILL" in mcr_here(*command).out
    found: dict[str, Any] = json.loads(mcr_here(*command, "--json").out)["workers"][0]
    return found
