"""A worker pool with fake workers in this process."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import NamedTuple

import pytest
from tests.support.fake_worker import FakeWorker

from mcr.daemon.control.api.jsonrpc import encode
from mcr.daemon.control.events import EventBus
from mcr.daemon.control.supervisor_channel import WorkerExited, WorkerStarted
from mcr.daemon.control.workers.messages import prepare_body
from mcr.daemon.control.workers.pool import WorkerPool
from mcr.rules.shaping import Shaping


class Spec(NamedTuple):
    """A rule as workers get it."""

    id: str
    enabled: bool
    members: bytes

    @property
    def title(self) -> str:
        """The rule for people."""
        return f"rule-{self.id}"


class FakeRulebook:
    """The rules that the workers must have."""

    def __init__(self) -> None:
        self.revision = 0
        self.shaping = Shaping()
        self.rules: dict[str, Spec] = {}


def spec(rule_id: str, *, enabled: bool = True) -> Spec:
    """A rule with the members that workers get."""
    return Spec(rule_id, enabled, encode({"input": {}, "outputs": [{}]})[1:])


class PoolHarness:
    """A worker pool with fake workers; plays the supervisor that restarts them."""

    def __init__(self, count: int) -> None:
        self.book = FakeRulebook()
        self.bus = EventBus()
        self.restarts: list[int] = []
        self.revives = True
        self.fakes: dict[int, FakeWorker] = {}
        self.pool = WorkerPool(count, self.book, self.bus, self._restart, lambda *_: None)
        self._pids = iter(range(100, 1000))
        for number in range(count):
            self.start(number)

    def start(self, number: int, fake: FakeWorker | None = None) -> FakeWorker:
        """Connect a worker."""
        pid = next(self._pids)
        fake = fake or FakeWorker(number)
        fake.number, fake.pid = number, pid
        self.fakes[number] = fake
        word = WorkerStarted(kind="worker", number=number, pid=pid, incarnation=pid)
        self.pool.connect_worker(word, fake.hand_over())
        return fake

    def end(self, number: int) -> None:
        """End a worker."""
        fake = self.fakes[number]
        fake.die()
        word = WorkerExited(
            kind="worker_ended",
            number=number,
            pid=fake.pid,
            cause="killed by SIGKILL",
            at=0.0,
            monotonic_s=time.monotonic(),
            restart_in_ms=0,
            deaths=1,
        )
        self.pool.record_exit(word)

    async def change(self, *add: Spec, remove: tuple[str, ...] = ()) -> None:
        """Make a change as the daemon does."""
        async with self.pool.lock:
            body = prepare_body(self.book.revision + 1, whole=False, remove=remove, add=add)
            await self.pool.change(body, (*remove, *(each.id for each in add)))
            kept = {each: it for each, it in self.book.rules.items() if each not in remove}
            self.book.rules = kept | {each.id: each for each in add}
            self.book.revision += 1

    async def settled(self) -> None:
        """Wait until all workers run with the rules of the rulebook."""
        for _ in range(1000):
            if len(self.pool.running) == len(self.fakes) and self.is_equal():
                return
            await asyncio.sleep(0.005)
        have = {number: (each.revision, list(each.rules)) for number, each in self.fakes.items()}
        pytest.fail(f"not equal: {have}, book {self.book.revision} {list(self.book.rules)}")

    def is_equal(self) -> bool:
        """Whether all workers have the rules of the rulebook."""
        wanted = {rule_id: rule.enabled for rule_id, rule in self.book.rules.items()}
        return all(
            {rule_id: rule["enabled"] for rule_id, rule in fake.rules.items()} == wanted
            and fake.revision == self.book.revision
            for fake in self.fakes.values()
        )

    def _restart(self, number: int, _pid: int) -> None:
        self.restarts.append(number)
        asyncio.get_running_loop().call_soon(self._revive, number)

    def _revive(self, number: int) -> None:
        self.end(number)
        if self.revives:
            self.start(number)


def run_with_pool(
    work: Callable[[PoolHarness], Coroutine[None, None, None]], count: int = 2
) -> None:
    """Run `work` with a pool of `count` running workers."""

    async def whole() -> None:
        harness = PoolHarness(count)
        await harness.pool.start()
        assert len(harness.pool.running) == count
        try:
            await asyncio.wait_for(work(harness), 20)
        finally:
            for worker in harness.pool.workers:
                if worker.channel is not None:
                    worker.channel.close()
            for fake in harness.fakes.values():
                fake.die()
            await asyncio.sleep(0.02)

    asyncio.run(whole())
