"""The worker pool: applies a change to all workers or none, and updates restarted workers.

Owns the two phases of a change and who has which rules. What the rules are it is told; what a
worker counts is the business of `counters`.

All workers end equal, whatever happens to some of them during a change:

- one refuses to prepare: all abort, nothing has changed;
- one dies or says nothing while it prepares: the others go on, and its successor gets the rules
  as they are then. Where there is no other, the change waits for the successor and asks it once
  more; whatever kills each worker that gets it, is refused;
- one dies or fails while it commits: as soon as one has committed, the change is real, and the
  others get it when they are back. If none has, nothing has changed.

A worker that comes back gets the rules as they are at once, also while others make a change. It
takes part in changes as soon as it has had the outcome of that one.

A worker that is silent, or whose channel ends while it lives, is killed by the supervisor.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from ....errors import EngineError, InterfaceError, McrError, RightsError, RuleError
from ....protocol.constants import ErrorCode
from ..api.errors import RpcError
from ..events import EventBus
from ..supervisor_channel import WorkerExited, WorkerStarted
from .channel import ANSWER_S, ChannelLost, ChannelSilent, WorkerChannel, WorkerRefused
from .messages import PROTOCOL, Failure, WorkerHello, WorkerMessage, prepare_body, read_hello
from .worker import DeathRecord, Worker

WAIT_FOR_WORKER_S = 5.0
"""How long a change waits for a worker while none is there, in seconds."""
_END_OF_LIFE_S = 2.0  # between the end of a channel and the supervisor's word on its worker
_PREPARE_S = 9.0  # less than the 10 s for which a worker keeps what it has prepared
_REFUSED_RULES = 16  # that a worker may leave out when it comes back
_RETRY_S = 10.0

_Linked = tuple[Worker, WorkerChannel]
"""A worker and the channel to this incarnation of it."""

_log = logging.getLogger("mcr.workers")


class Rules(Protocol):
    """The rules that workers shall have."""

    @property
    def revision(self) -> int:
        """Of these rules."""

    def specs(self) -> list[tuple[str, bool, bytes]]:
        """Each in their order: its id, whether it is enabled, what workers are told of the rest."""


class WorkerPool:
    """The workers, running or not."""

    def __init__(
        self,
        count: int,
        rules: Rules,
        bus: EventBus,
        restart: Callable[[int], None],
        told: Callable[[int, WorkerMessage], None],
    ) -> None:
        """Know of so many workers; none is there yet.

        Args:
            count: how many.
            rules: what they shall have.
            bus: where starts and ends are told.
            restart: asks the supervisor to kill and restart one, by its number.
            told: takes what a worker tells by itself.
        """
        self.workers = [Worker(number) for number in range(count)]
        self.lock = asyncio.Lock()
        """Held by whoever changes the rules or counts on a worker to have them."""
        self.log_level = "info"
        """What workers shall log at least."""
        self._rules = rules
        self._events = bus
        self._restart = restart
        self._told = told
        self._tasks: set[asyncio.Task[None]] = set()
        self._serves = False

    @property
    def running(self) -> list[Worker]:
        """Those that relay by the rules."""
        return [worker for worker in self.workers if worker.is_running]

    def lack(self, rule_id: str) -> str | None:
        """Why a worker does not have a rule, as the state of the rule says it."""
        found = (worker.lacks[rule_id] for worker in self.workers if rule_id in worker.lacks)
        why = next(found, None)
        return None if why is None else f"unresolved: {why}"

    async def begin(self) -> None:
        """Bring up all workers that are there, and from now on each that comes."""
        self._serves = True
        async with self.lock:
            await self._bring_up_all()

    def came(self, word: WorkerStarted, descriptor: int) -> None:
        """Take the channel to a worker that runs; an older one of the same number is over."""
        channel = socket.socket(fileno=descriptor)
        channel.setblocking(False)
        worker = self.workers[word.number]
        if worker.link is not None:
            old, worker.link = worker.link, None
            old.close()
        if (word.pid, word.incarnation) != (worker.pid, worker.incarnation):
            worker.started_at = time.time() if word.started_at is None else word.started_at
            text = f"worker {word.number} runs as process {word.pid}"
            self._events.publish("worker", "started", text, number=word.number, pid=word.pid)
        worker.pid, worker.incarnation, worker.cpu = word.pid, word.incarnation, word.cpu
        worker.restart_in_ms, worker.synced = None, False
        worker.deaths = max(worker.deaths, word.deaths)
        if worker.last_death is None and word.last_death is not None:
            worker.last_death = DeathRecord(
                word.last_death.at, word.last_death.cause, was_seen=False
            )
        worker.link = WorkerChannel(
            channel,
            lambda message: self._told(word.number, message),
            lambda link: self._link_ended(worker, link),
        )
        if self._serves:
            self._spawn(self._bring_back(worker))

    def ended(self, word: WorkerExited) -> None:
        """Take the supervisor's word on the end of a worker."""
        worker = self.workers[word.number]
        if worker.pid == word.pid:
            worker.pid, worker.synced = None, False
            if worker.link is not None:
                worker.link.close()
        worker.deaths, worker.restart_in_ms = word.deaths, word.restart_in_ms
        dropped = worker.kernel_dropped_frames
        worker.last_death = DeathRecord(word.at, word.cause, kernel_dropped_frames=dropped)
        number, pid = word.number, word.pid
        text = f"worker {number}, process {pid}: {word.cause}"
        self._events.publish("worker", "died", text, number=number, pid=pid, cause=word.cause)
        _log.warning("%s", text)
        if word.restart_in_ms:
            text = f"worker {number} starts again in {word.restart_in_ms} ms"
            self._events.publish("worker", "restarting", text, number=number, pid=pid)

    async def change(self, body: bytes, rule_ids: Iterable[str]) -> None:
        """Make a change in all workers; the caller holds the lock and makes it real then.

        Args:
            body: what they are told, see `prepare_body`.
            rule_ids: the rules that it is about.

        Raises:
            RuleError, InterfaceError, RightsError, EngineError, RpcError: nothing has changed.
        """
        ready = await self._prepare(body)
        if not ready:  # those that were there are gone: their successors are asked, once
            ready = await self._prepare(body)
        if not ready:
            raise EngineError("every worker ended while it prepared the change; nothing changed")
        outcomes = await self._ask_each(ready, {"do": "commit"})
        if not any(outcome is None for outcome in outcomes):
            raise EngineError("no worker could finish the change; nothing has changed")
        for (worker, link), outcome in zip(ready, outcomes, strict=True):
            if outcome is not None:
                why = f"it prepared a change and could not finish it: {outcome}"
                self._give_up(worker, link, why)
        for worker in self.workers:
            if worker.lacks:
                gone = set(rule_ids)
                worker.lacks = {each: why for each, why in worker.lacks.items() if each not in gone}

    async def tell_log_level(self, level: str) -> None:
        """Let all workers log this and what is graver."""
        self.log_level = level
        await self._ask_each(self._linked, {"do": "log", "level": level})

    async def stop(self, within_s: float) -> None:
        """Let all engines send what they have received, and end; what they counted stays."""
        stops = (link.ask({"do": "stop"}, within_s) for _worker, link in self._linked)
        await asyncio.gather(*stops, return_exceptions=True)

    def restart(self, worker: Worker, why: str) -> None:
        """Have a worker killed that hangs; its successor gets the rules."""
        if worker.link is not None:
            self._give_up(worker, worker.link, why)

    async def _prepare(self, body: bytes) -> list[_Linked]:
        """Those that are ready to commit; none if all have ended meanwhile."""
        asked = await self._wait_for_workers()
        outcomes = await asyncio.gather(
            *(
                self._outcome(worker, link, link.ask_encoded(body, _PREPARE_S))
                for worker, link in asked
            )
        )
        pairs = list(zip(asked, outcomes, strict=True))
        ready = [each for each, outcome in pairs if outcome is None]
        refused = [outcome for _each, outcome in pairs if isinstance(outcome, WorkerRefused)]
        if not refused:
            return ready
        outcomes = await self._ask_each(ready, {"do": "abort"})
        for (worker, link), outcome in zip(ready, outcomes, strict=True):
            if outcome is not None:
                self._give_up(worker, link, "it could not take a prepared change back")
        raise error_of(refused[0].failure)

    async def _wait_for_workers(self) -> list[_Linked]:
        """Those that run, or the first that comes back in time."""
        ends_s = time.monotonic() + WAIT_FOR_WORKER_S
        while not (running := [each for each in self._linked if each[0].synced]):
            left_s = ends_s - time.monotonic()
            if left_s <= 0:
                raise EngineError("no worker is running; nothing has changed")
            await self._bring_up_all()
            if not any(worker.synced for worker in self.running):
                await asyncio.sleep(min(left_s, 0.02))
        return running

    @property
    def _linked(self) -> list[_Linked]:
        return [(worker, worker.link) for worker in self.running if worker.link is not None]

    async def _ask_each(
        self, asked: Sequence[_Linked], request: dict[str, Any]
    ) -> list[WorkerRefused | ChannelLost | None]:
        return await asyncio.gather(
            *(self._outcome(worker, link, link.ask(request, ANSWER_S)) for worker, link in asked)
        )

    async def _outcome(
        self, worker: Worker, link: WorkerChannel, asking: Awaitable[object]
    ) -> WorkerRefused | ChannelLost | None:
        """What came of a question; None where the worker did what it was asked."""
        try:
            await asking
        except ChannelSilent as silent:
            self._give_up(worker, link, str(silent))
            return silent
        except (ChannelLost, WorkerRefused) as error:
            return error
        return None

    def _give_up(self, worker: Worker, link: WorkerChannel, why: str) -> None:
        """Have it killed, unless its successor is there, which gets the rules as they are then."""
        if worker.link is not link:
            return
        _log.warning("worker %d is restarted: %s", worker.number, why)
        worker.synced, worker.link = False, None
        link.close()
        self._restart(worker.number)

    def _link_ended(self, worker: Worker, link: WorkerChannel) -> None:
        if worker.link is link:
            worker.synced = False
            self._spawn(self._kill_if_disconnected(worker, link))

    async def _kill_if_disconnected(self, worker: Worker, link: WorkerChannel) -> None:
        """A worker that lives without a channel must not go on by rules that nobody can change."""
        await asyncio.sleep(_END_OF_LIFE_S)
        if worker.link is link and worker.pid is not None:
            self._give_up(worker, link, "its channel has ended")

    async def _bring_back(self, worker: Worker) -> None:
        """Let a worker that has come relay again before a change that is under way has ended."""
        await self._provide(worker)
        async with self.lock:
            await self._bring_up_all()

    async def _bring_up_all(self) -> None:
        """Give the rules to all that have a channel and not the rules yet; the lock is held."""
        await asyncio.gather(*(self._bring_up(each) for each in self.workers if not each.synced))

    async def _bring_up(self, worker: Worker) -> None:
        link = await self._provide(worker)
        if link is None:
            return
        worker.synced = True
        if worker.lacks:
            self._spawn(self._retry(worker, link))

    async def _provide(self, worker: Worker) -> WorkerChannel | None:
        """Give a worker the rules that are real now; its link, unless it could not take them."""
        async with worker.turn:
            link = worker.link
            if link is None or link.is_over:
                return None
            outcome = await self._outcome(worker, link, self._give_rules(worker, link))
            if outcome is None:
                worker.provided = link
                self._note_return(worker)
                return link
            if not link.is_over:
                self._give_up(worker, link, f"it does not take the rules: {outcome}")
            return None

    def _note_return(self, worker: Worker) -> None:
        death = worker.last_death
        if death is None or death.is_over:
            return
        death.is_over = True
        if worker.had_rules and not death.was_seen:
            return  # it was over before this process began, which can tell of it no more
        death.outage_ms = max(0, round((time.time() - death.at) * 1000))
        text = f"worker {worker.number} relays again after {death.outage_ms} ms"
        self._events.publish("worker", "restored", text, number=worker.number, pid=worker.pid)
        _log.info("%s", text)

    async def _give_rules(self, worker: Worker, link: WorkerChannel) -> None:
        """Let a worker have the rules, but for those that it refuses by themselves."""
        hello = _hello_of(worker, await link.ask({"do": "hello"}, ANSWER_S))
        worker.had_rules = hello["revision"] > 0
        await link.ask({"do": "log", "level": self.log_level}, ANSWER_S)
        # In this order: a change may become real meanwhile, the rules before their revision. Those
        # of a later revision are given again, those of an earlier one would be taken for the later.
        revision = self._rules.revision
        specs = self._rules.specs()
        ids = {rule_id for rule_id, _enabled, _tail in specs}
        if hello["revision"] == revision and set(hello["rules"]) == ids:
            worker.lacks = {}
            return
        lacks: dict[str, str] = {}
        while True:
            wanted = [spec for spec in specs if spec[0] not in lacks]
            whole = partial(prepare_body, revision, whole=True, remove=(), add=wanted)
            body = await asyncio.to_thread(whole)
            try:
                await link.ask_encoded(body, _PREPARE_S)
                break
            except WorkerRefused as refused:
                rule_id = refused.failure["rule"]
                known = rule_id in ids and rule_id not in lacks
                if rule_id is None or not known or len(lacks) >= _REFUSED_RULES:
                    raise
                lacks[rule_id] = refused.failure["message"]
                if worker.lacks.get(rule_id) != lacks[rule_id]:
                    _log.error("worker %d lacks rule %s: %s", worker.number, rule_id, refused)
        await link.ask({"do": "commit"}, ANSWER_S)
        # Only now: meanwhile clients see the reasons of the last attempt.
        worker.lacks = lacks

    async def _retry(self, worker: Worker, link: WorkerChannel) -> None:
        """Try again with all the rules, until it has them."""
        await asyncio.sleep(_RETRY_S)
        async with self.lock:
            if worker.link is link and worker.synced and worker.lacks:
                worker.synced = False
                await self._bring_up(worker)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _hello_of(worker: Worker, ok: dict[str, Any]) -> WorkerHello:
    try:
        hello = read_hello(ok)
    except ValueError:
        raise ChannelLost("it says of itself what no worker says") from None
    if (hello["protocol"], hello["number"]) != (PROTOCOL, worker.number):
        raise ChannelLost("it is another worker, or speaks another protocol")
    return hello


def error_of(failure: Failure) -> McrError | RpcError:
    """The error that says to a client what a worker said."""
    message = failure["message"]
    kind = failure["kind"]
    if kind == "rule":
        return RuleError([(f"rule {failure['rule']}" if failure["rule"] else "", message)])
    if kind == "interface":
        return InterfaceError(message)
    if kind == "rights":
        return RightsError(message)
    if kind == "limit":
        return RpcError(ErrorCode.LIMIT, message)
    return EngineError(message)
