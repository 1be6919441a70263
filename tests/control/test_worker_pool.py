"""Changes with workers that refuse, hang and die at every point: all end with the same rules."""

import asyncio
from typing import Any

import pytest
from tests.support.deadline import until
from tests.support.fake_worker import FakeWorker
from tests.support.pool_harness import PoolHarness, run_with_pool, spec

from mcr.daemon.control.supervisor_channel import LastDeath, WorkerStarted
from mcr.daemon.control.workers import pool as module
from mcr.errors import EngineError, RightsError


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace time limits of seconds by fractions of a second."""
    monkeypatch.setattr(module, "_PREPARE_S", 0.3)
    monkeypatch.setattr(module, "WAIT_FOR_WORKER_S", 0.5)
    monkeypatch.setattr(module, "_EXIT_S", 0.05)
    monkeypatch.setattr(module, "_RETRY_S", 0.1)


def test_a_change_reaches_all() -> None:
    """Rules are added, disabled and removed."""

    async def work(harness: PoolHarness) -> None:
        await harness.change(spec("a"), spec("b"))
        await harness.change(spec("a", enabled=False), remove=("b",))
        assert harness.is_equal()
        assert harness.restarts == []

    run_with_pool(work)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_refusal_aborts_the_change(count: int) -> None:
    """No worker has any of it."""

    async def work(harness: PoolHarness) -> None:
        await harness.change(spec("a"))
        harness.fakes[count - 1].script["prepare"] = "refuse"
        with pytest.raises(RightsError):
            await harness.change(spec("b"))
        assert harness.is_equal()
        assert harness.restarts == []

    run_with_pool(work, count)


@pytest.mark.parametrize("at", ["prepare", "commit"])
@pytest.mark.parametrize("how", ["die", "hang", "garbage"])
def test_the_others_continue_without_one(at: str, how: str) -> None:
    """Its successor has the new rules."""

    async def work(harness: PoolHarness) -> None:
        await harness.change(spec("a"))
        harness.fakes[1].script[at] = how
        if at == "commit" and how == "hang":
            harness.fakes[1].script["commit"] = "refuse"
        await harness.change(spec("b"))
        if how == "die" and 1 not in harness.restarts:
            harness.end(1)
            harness.start(1)
        await harness.settled()
        assert list(harness.book.rules) == ["a", "b"]

    run_with_pool(work)


def test_a_worker_restarted_during_a_change_relays_at_once() -> None:
    """By the previous rules, and it is not taken for the worker that prepared the change."""

    async def work(harness: PoolHarness) -> None:
        await harness.change(spec("a"))
        harness.fakes[1].script["prepare"] = "hang"
        asked = len(harness.fakes[1].asked)
        change = asyncio.ensure_future(harness.change(spec("b")))
        while "prepare" not in harness.fakes[1].asked[asked:]:
            await asyncio.sleep(0.005)
        harness.end(0)
        fake = harness.start(0)
        while list(fake.rules) != ["a"]:
            await asyncio.sleep(0.005)
        while harness.pool.workers[0].state != "running":
            await asyncio.sleep(0.005)
        assert not change.done()
        await change
        await harness.settled()
        assert harness.restarts == [1]
        assert list(harness.book.rules) == ["a", "b"]

    run_with_pool(work, 3)


def test_a_change_waits_for_the_successor_of_the_only_worker() -> None:
    """It is made when the successor has prepared it."""

    async def work(harness: PoolHarness) -> None:
        harness.fakes[0].script["prepare"] = "die"
        change = asyncio.ensure_future(harness.change(spec("a")))
        while "prepare" not in harness.fakes[0].asked:
            await asyncio.sleep(0.005)
        harness.end(0)
        harness.start(0)
        await change
        assert harness.is_equal()

    run_with_pool(work, 1)


def test_a_rule_that_kills_every_worker_is_refused() -> None:
    """And the successors do not get it."""

    async def work(harness: PoolHarness) -> None:
        await harness.change(spec("a"))
        harness.fakes[0].script["prepare"] = "die"
        change = asyncio.ensure_future(harness.change(spec("poison")))
        while "prepare" not in harness.fakes[0].asked[4:]:
            await asyncio.sleep(0.005)
        harness.end(0)
        harness.start(0).script["prepare"] = lambda request: (
            {"ok": harness.fakes[0]._prepare(request)} if request["whole"] else _died(harness)
        )
        with pytest.raises(EngineError):
            await change
        harness.end(0)
        harness.start(0)
        await harness.settled()
        assert list(harness.book.rules) == ["a"]

    run_with_pool(work, 1)


def _died(harness: PoolHarness) -> dict[str, Any]:
    harness.fakes[0].die()
    return {}


def test_without_a_worker_a_change_fails_in_time() -> None:
    """Nothing has changed."""

    async def work(harness: PoolHarness) -> None:
        harness.end(0)
        with pytest.raises(EngineError, match="no worker is running"):
            await harness.change(spec("a"))

    run_with_pool(work, 1)


def test_if_no_worker_can_commit_nothing_has_changed() -> None:
    """Workers that refuse keep their rules, and are not restarted."""

    async def work(harness: PoolHarness) -> None:
        await harness.change(spec("a"))
        for fake in harness.fakes.values():
            fake.script["commit"] = "refuse"
        with pytest.raises(EngineError):
            await harness.change(spec("b"))
        await harness.settled()
        assert list(harness.book.rules) == ["a"]
        assert harness.restarts == []

    run_with_pool(work)


def test_a_worker_that_closes_its_channel_is_killed() -> None:
    """Otherwise it would keep relaying by rules that cannot be changed."""

    async def work(harness: PoolHarness) -> None:
        await harness.change(spec("a"))
        harness.fakes[1].die()
        await until(lambda: harness.restarts)
        assert harness.restarts == [1]
        await harness.settled()

    run_with_pool(work)


def test_a_worker_that_has_the_rules_is_left_alone() -> None:
    """As after a restart of control."""

    async def work(harness: PoolHarness) -> None:
        await harness.change(spec("a"))
        old = harness.fakes[0]
        again = FakeWorker(0)
        again.rules, again.revision = old.rules, old.revision
        harness.start(0, again)
        await harness.settled()
        assert "prepare" not in again.asked

    run_with_pool(work)


def test_a_restarted_worker_lacks_rules_that_it_refuses() -> None:
    """They are retried until it accepts them."""

    async def work(harness: PoolHarness) -> None:
        await harness.change(spec("a"), spec("b"))
        harness.end(1)
        fake = FakeWorker(1)

        def prepare(request: dict[str, Any]) -> dict[str, Any]:
            if any(rule["id"] == "b" for rule in request["add"]):
                message = "port 5001 is in use"
                return {"error": {"kind": "rule", "rule": "b", "message": message}}
            return {"ok": fake._prepare(request)}

        fake.script["prepare"] = prepare
        harness.start(1, fake)
        while not harness.pool.workers[1].refused_rules:
            await asyncio.sleep(0.005)
        assert harness.pool.workers[1].refused_rules == {"b": "port 5001 is in use"}
        assert (list(fake.rules), harness.restarts) == (["a"], [])
        fake.script.clear()
        while harness.pool.workers[1].refused_rules:  # ends by the time limit of the harness
            await asyncio.sleep(0.005)
        assert harness.is_equal()

    run_with_pool(work)


def test_a_worker_that_accepts_no_rules_is_restarted() -> None:
    """As after a protocol error, or with another version."""

    async def work(harness: PoolHarness) -> None:
        await harness.change(spec("a"))
        harness.end(1)
        fake = FakeWorker(1)
        fake.script["hello"] = lambda _request: {"ok": {"protocol": 2}}
        harness.start(1, fake)
        while harness.restarts != [1]:
            await asyncio.sleep(0.005)
        await harness.settled()

    run_with_pool(work)


@pytest.mark.parametrize("relays", [True, False])
def test_deaths_before_this_process_are_known(relays: bool) -> None:
    """The supervisor reports them with the worker; their outage is unknown if it is over."""

    async def work(harness: PoolHarness) -> None:
        fake = FakeWorker(0)
        fake.revision = int(relays)
        word = WorkerStarted(
            kind="worker",
            number=0,
            pid=99,
            incarnation=3,
            started_at=5.0,
            deaths=2,
            last_death=LastDeath(at=4.0, monotonic_s=4.0, cause="killed by SIGSEGV"),
        )
        harness.fakes[0].die()
        harness.fakes[0] = fake
        harness.pool.connect_worker(word, fake.hand_over())
        await harness.settled()
        known = harness.pool.workers[0].info()
        assert (known.started_at, known.deaths) == (5.0, 2)
        death = known.last_death
        assert death is not None
        assert (death.at, death.cause) == (4.0, "killed by SIGSEGV")
        assert (death.outage_ms is None, death.missed_frames) == (relays, None)

    run_with_pool(work)


def test_deaths_are_recorded() -> None:
    """In the record and in the events."""

    async def work(harness: PoolHarness) -> None:
        harness.end(1)
        worker = harness.pool.workers[1]
        assert worker.info().state == "restarting"
        assert worker.info().pid is None
        harness.start(1)
        await harness.settled()
        last = worker.info().last_death
        assert last is not None
        assert last.cause == "killed by SIGKILL"
        # By the clock that nobody sets: the time of day of this death is 1970.
        assert last.at == 0
        assert last.outage_ms is not None
        assert last.outage_ms < 20_000
        assert (worker.state, worker.deaths) == ("running", 1)

    run_with_pool(work)
