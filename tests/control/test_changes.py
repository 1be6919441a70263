"""Changes with slow name servers, event numbers across restarts, and failures on the way."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.fake_host import HOST
from tests.support.fake_worker import FakeWorker

from mcr.daemon.control.api.errors import RpcError
from mcr.daemon.control.events import EventBus
from mcr.daemon.control.log import ControlLog
from mcr.daemon.control.rules import rulebook, snapshot
from mcr.daemon.control.rules.entries import EnabledRule, read_entries
from mcr.daemon.control.rules.rulebook import Rulebook
from mcr.daemon.control.rules.transactions import Transactions
from mcr.daemon.control.supervisor_channel import WorkerStarted
from mcr.daemon.control.workers.pool import WorkerPool
from mcr.daemon.control.workers.status import RuleStatusTracker

PLAIN = "239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001"
NAMED = "239.1.1.2%eth0:5001 to studio.example:7001"
NOWHERE = "239.1.1.3%eth0:5001 to nowhere.example:7001"


class NameServer:
    """A name server whose answers a test permits."""

    def __init__(self) -> None:
        self.table = {"studio.example": "192.0.2.7"}
        self.may_answer = threading.Event()
        self.asked: list[str] = []

    def getaddrinfo(self, host: str, *_: object) -> list[tuple[object, ...]]:
        """Like that of the C library."""
        self.asked.append(host)
        assert self.may_answer.wait(20)
        if host not in self.table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (self.table[host], 0))]


class FakeSnapshotStore:
    """Plays the supervisor channel, and reads what it is given to keep."""

    def __init__(self) -> None:
        self.kept: list[snapshot.RuleSnapshot] = []

    async def keep(self, memory: int) -> bool | None:
        """Succeed."""
        self.kept.append(snapshot.read(snapshot.read_all(memory), in_use=False))
        return True


class TransactionHarness:
    """Changes with one fake worker."""

    def __init__(self) -> None:
        self.bus, self.keeper, self.worker = EventBus(), FakeSnapshotStore(), FakeWorker(0)
        self.book = Rulebook("packet")
        self.news = RuleStatusTracker(self.bus)
        self.pool = WorkerPool(1, self.book, self.bus, lambda *_: None, lambda *_: None)
        self.log = ControlLog(lambda *_: None)
        self.executors = [ThreadPoolExecutor(1), ThreadPoolExecutor(2)]
        self.changes = Transactions(
            self.book,
            self.pool,
            self.bus,
            self.news,
            self.log,
            self.keeper,  # type: ignore[arg-type]
            checks=self.executors[0],
            lookups=self.executors[1],
            hosts="first",
        )

    async def begin(self) -> None:
        """Connect the worker."""
        word = WorkerStarted(kind="worker", number=0, pid=os.getpid(), incarnation=1)
        self.pool.connect_worker(word, self.worker.hand_over())
        await self.pool.start()
        self.changes.begin()

    async def end(self) -> None:
        """Release everything."""
        channel = self.pool.workers[0].channel
        if channel is not None:
            channel.close()
        self.worker.die()
        for executor in self.executors:
            executor.shutdown()
        await asyncio.sleep(0.02)


def run_with_worker(work: Callable[[TransactionHarness], Coroutine[None, None, None]]) -> None:
    """Run `work` with a fake worker that runs."""

    async def whole() -> None:
        harness = TransactionHarness()
        await harness.begin()
        try:
            await asyncio.wait_for(work(harness), 20)
        finally:
            await harness.end()

    asyncio.run(whole())


def entries(*texts: str) -> list[EnabledRule]:
    """Enabled rules."""
    return read_entries(texts, enabled=True)


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """The fake host and its fake name server."""
    made = NameServer()
    monkeypatch.setattr(rulebook, "interfaces", lambda: HOST)
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    yield made
    made.may_answer.set()


def test_a_slow_name_server_delays_only_its_requests(server: NameServer) -> None:
    """Changes without names continue, and so does a dry run."""

    async def work(harness: TransactionHarness) -> None:
        slow = asyncio.ensure_future(harness.changes.add(entries(NAMED)))
        while not server.asked:
            await asyncio.sleep(0.005)
        await harness.changes.add(entries(PLAIN))
        assert (harness.book.revision, slow.done()) == (1, False)
        server.may_answer.set()
        draft = await slow
        assert draft.revision == 2
        assert server.asked == ["studio.example"]

    run_with_worker(work)


def test_a_name_that_does_not_resolve_is_retried(server: NameServer) -> None:
    """Its rule waits, and the others do not."""
    server.may_answer.set()

    async def work(harness: TransactionHarness) -> None:
        draft = await harness.changes.replace(entries(PLAIN, NOWHERE))
        (warning,) = draft.warnings
        assert warning.startswith("rule 2, output 1, address: the host 'nowhere.example' does not")
        assert server.asked == ["nowhere.example"]
        await harness.changes.retry()
        assert server.asked == ["nowhere.example"] * 2
        assert (harness.book.revision, len(harness.book.unfinished)) == (1, 1)

    run_with_worker(work)


def test_names_are_resolved_again(server: NameServer) -> None:
    """The addresses are kept with the rules, for a start without a name server."""
    server.may_answer.set()

    async def work(harness: TransactionHarness) -> None:
        await harness.changes.add(entries(NAMED, PLAIN))
        assert await harness.changes.resolve_hosts() == ()
        server.table["studio.example"] = "192.0.2.8"
        (change,) = await harness.changes.resolve_hosts()
        assert [str(each) for each in change.after] == ["192.0.2.8"]
        (spec, _) = harness.worker.rules.values()
        assert spec["outputs"][0]["address"] == "192.0.2.8"
        assert list(harness.keeper.kept[-1].answers.values()) == [change.after]
        server.table.clear()
        (change,) = await harness.changes.resolve_hosts()
        assert change.error is not None
        assert harness.book.revision == 2

    run_with_worker(work)


def test_no_number_of_an_event_is_used_twice() -> None:
    """The kept number is ahead of the published ones, even if no rule changes."""

    async def work(harness: TransactionHarness) -> None:
        await harness.changes.keep()
        for _ in range(3000):
            harness.bus.publish("log", "record", "a line")
            if harness.bus.sequence % 100 == 0:
                await asyncio.sleep(0.005)
                assert harness.keeper.kept[-1].sequence > harness.bus.sequence

    run_with_worker(work)


def test_while_draining_nothing_changes() -> None:
    """The error says why."""

    async def work(harness: TransactionHarness) -> None:
        harness.changes.is_draining = True
        with pytest.raises(RpcError, match="the daemon is shutting down"):
            await harness.changes.add(entries(PLAIN))
        assert "prepare" not in harness.worker.asked

    run_with_worker(work)


def test_rules_that_could_not_be_kept_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before workers get them."""
    monkeypatch.setattr("mcr.daemon.control.limits.KEPT_BYTES", (1 << 20) + 100)

    async def work(harness: TransactionHarness) -> None:
        with pytest.raises(RpcError, match="all rules together need"):
            await harness.changes.add(entries(PLAIN, NAMED.replace("studio.example", "192.0.2.1")))
        assert "prepare" not in harness.worker.asked

    run_with_worker(work)
