"""The control process of a daemon, killed or stopped: traffic never notices, clients hardly."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

import pytest
from tests.support.deadline import wait_until
from tests.support.processes import is_running

import mcr

from .checks import assert_balanced, sent_counts, settle
from .daemons import Daemon, serving
from .deaths import kill, stopped
from .lab import Lab
from .relays import Ingress
from .traffic import PacedFlow, Receiver, payloads

RATE_PPS = 5000
ONE = "239.1.93.1%in0:5001,name=one to 239.2.93.1%out0:6001"
TWO = "239.1.93.2%in0:5001,name=two to 239.2.93.2%out0:6001"
MANY = 1000
SOURCES = 8  # so many flows, that each worker has some


@contextlib.contextmanager
def flowing(lab: Lab) -> Iterator[tuple[PacedFlow, Receiver]]:
    """The flow of the first rule and its receiver; at the end nothing is missing."""
    with lab.receive("239.2.93.1", 6001) as receiver, lab.sender("239.1.93.1", 5001) as sender:
        with PacedFlow(sender, RATE_PPS) as flow:
            flow.advance(RATE_PPS // 10)
            yield flow, receiver
            flow.advance(RATE_PPS // 10)
        receiver.expect(flow.sent)


def known(client: mcr.Client) -> tuple[int, list[tuple[str, bool]], list[tuple[int, int]]]:
    """What a successor must know: revision, rules, and how the workers have died."""
    rules = client.rules()
    deaths = [(worker.deaths, worker.incarnation) for worker in client.workers()]
    return rules.revision, [(rule.id, rule.enabled) for rule in rules], deaths


def served_by_another(daemon: Daemon, before: int) -> float:
    """Wait until another control process serves; return after how many seconds it did."""

    def serves() -> bool:
        try:
            return daemon.control != before
        except mcr.DaemonError:
            return False

    began_s = time.monotonic()
    wait_until(serves, 15.0)
    return time.monotonic() - began_s


def test_killing_control_costs_no_traffic(lab: Lab, ingress: Ingress) -> None:
    """The successor has all its rules, and counters continue."""
    with (
        serving(lab.relay, "--ingress", ingress, "--workers", "2") as daemon,
        daemon.client() as client,
    ):
        client.add_rules([ONE, TWO])
        client.disable_rule("two")
        kill(daemon.workers[1])
        wait_until(lambda: client.ping().workers.running == 2)
        before, started = known(client), [worker.started_at for worker in client.workers()]
        with flowing(lab) as (flow, _receiver):
            counted = client.stats().rules[0].matched
            workers, control = daemon.workers, daemon.control
            kill(control)
            assert known(client) == before
            assert client.hello().pid != control
            assert [worker.started_at for worker in client.workers()] == pytest.approx(started)
            assert daemon.workers == workers
            assert client.stats().rules[0].matched >= counted
            (_, second) = client.workers()
            assert second.last_death is not None
            assert second.last_death.cause == "killed by SIGKILL"
            client.enable_rule("two")
            assert client.rules().revision == before[0] + 1
        settle(client, lambda stats: sent_counts(stats) == [len(flow.sent), 0])


def test_subscriptions_continue(lab: Lab) -> None:
    """Numbers ascend by one; only events without a connection are a gap."""
    with (
        serving(lab.relay) as daemon,
        daemon.client() as client,
        client.events(["rule", "worker"]) as events,
    ):
        client.add_rule(ONE)
        first = next(events)
        assert (first.event, first.fields["name"]) == ("added", "one")
        for name in ("two", "three"):
            kill(daemon.control)
            client.add_rule(TWO.replace("two", name).replace("93.2", f"93.{len(name)}"))
            heard: list[mcr.Event] = []
            while not heard or heard[-1].event != "added":
                heard.append(next(events))
            assert heard[-1].fields["name"] == name
            assert [event.kind for event in heard if event.kind == "gap"] == []
            assert first.sequence < heard[-1].sequence < first.sequence + 40
            first = heard[-1]


def test_an_asynchronous_client_continues(lab: Lab) -> None:
    """Its requests and its events."""

    async def follow(daemon: Daemon) -> None:
        async with mcr.AsyncClient(daemon.socket) as client, client.events(["rule"]) as events:
            await client.add_rule(ONE)
            assert (await anext(events)).fields["name"] == "one"
            kill((await client.hello()).pid)
            assert [rule.name for rule in await client.rules()] == ["one"]
            await client.add_rule(TWO)
            assert (await anext(events)).fields["name"] == "two"

    with serving(lab.relay) as daemon:
        asyncio.run(asyncio.wait_for(follow(daemon), 20))


def test_a_stopped_control_is_replaced(lab: Lab) -> None:
    """After 5 s, without losing a datagram; clients wait for it and continue."""
    with serving(lab.relay) as daemon, daemon.client() as client:
        client.add_rules([ONE, TWO])
        before, control = known(client), daemon.control
        with flowing(lab), stopped(control):
            took_s = served_by_another(daemon, control)
            assert 3 < took_s < 9
            assert known(client) == before
            assert not is_running(control)
        daemon.wait_for("did not answer for 5 s")


def test_all_children_are_killed_at_once(lab: Lab, ingress: Ingress) -> None:
    """What was sent after that waits in the sockets, and is relayed when they are back."""
    with (
        serving(lab.relay, "--ingress", ingress, "--workers", "2") as daemon,
        daemon.client() as client,
        lab.receive("239.2.93.1", 6001) as receiver,
        lab.sender("239.1.93.1", 5001) as sender,
    ):
        client.add_rules([ONE, TWO])
        datagrams = payloads(600, (200,))
        sender.send(datagrams[:300])
        receiver.expect(datagrams[:300])
        settle(client, lambda stats: sent_counts(stats) == [300, 0])
        revision, rules, _deaths = known(client)
        kill(daemon.control, *daemon.workers)
        sender.send(datagrams[300:])
        receiver.expect(datagrams)
        assert known(client)[:2] == (revision, rules)
        settle(client, lambda stats: sent_counts(stats) == [600, 0])
        for worker in client.workers():
            assert (worker.deaths, worker.state) == (1, "running")
            assert worker.last_death is not None
            assert worker.last_death.outage_ms is not None


@pytest.mark.parametrize("after_s", [0.05, 0.2, 0.4, 0.8])
def test_control_is_killed_in_the_middle_of_a_large_change(lab: Lab, after_s: float) -> None:
    """Afterwards all of it is there or nothing, in each worker; the flow beside loses nothing."""
    change = [
        f"239.1.{94 + at // 250}.{at % 250}%in0:5001 to 239.2.94.1%out0:6001" for at in range(MANY)
    ]
    with (
        serving(lab.relay, "--workers", "2") as daemon,
        daemon.client() as client,
        contextlib.ExitStack() as stack,
    ):
        client.add_rule(ONE)
        with flowing(lab):
            asking = threading.Thread(target=request_change, args=(daemon, change))
            asking.start()
            time.sleep(after_s)  # of its way: there is nothing to wait for
            kill(daemon.control)
            asking.join()
            count = len(client.rules())
        assert count in {1, MANY + 1}
        assert client.rules().revision == (1 if count == 1 else 2)
        receiver = stack.enter_context(lab.receive("239.2.94.1", 6001))
        senders = [
            stack.enter_context(lab.sender(group, 5001))
            for group in ("239.1.94.0", "239.1.97.249")
            for _ in range(SOURCES)
        ]
        for number, sender in enumerate(senders):
            sender.send([bytes([number])])
        expected = len(senders) if count > 1 else 0
        stats = settle(client, lambda stats: stats.totals.sent >= expected)
        receiver.wait_for(expected)
        assert len(receiver.collected) == expected
        assert_balanced(stats)


def request_change(daemon: Daemon, change: list[str]) -> None:
    """Request a change; the daemon may exit without an answer."""
    with contextlib.suppress(mcr.DaemonError), daemon.client() as client:
        client.add_rules(change)
