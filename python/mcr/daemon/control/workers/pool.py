"""The worker pool: applies a change to all workers or none, and updates restarted workers.

Owns the two phases of a change (prepare, commit) and the record of which worker has which rules.
The rules come from the rulebook.

All workers end with the same rules, whatever happens to some of them during a change:

- A worker refuses to prepare: the change is aborted in all, and nothing has changed.
- A worker dies or is silent while it prepares: the others continue, and its successor gets the
  rules in force. If there is no other worker, the change waits for the successor and tries once
  more; a change that kills its workers twice is refused.
- A worker dies or fails to commit: once one worker has committed, the change is in force, and the
  others get it after their restart. If none has, nothing has changed.

A restarted worker gets the rules in force at once, even during a change. It takes part in changes
as soon as it has the outcome of that one.

A worker that is silent, or that closes its channel and keeps running, is killed by the supervisor.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ....choices import Facility
from ....errors import EngineError
from ....log_levels import logger_of
from ....stats.rule_state import InputTrouble
from ..events import EventBus
from ..supervisor_channel import WorkerExited, WorkerStarted
from .channel import ANSWER_S, ChannelLost, ChannelSilent, WorkerChannel, WorkerRefused
from .messages import (
    PROTOCOL,
    WORKER_FACILITIES,
    WorkerHello,
    WorkerMessage,
    prepare_body,
    read_hello,
)
from .refusal import error_from, reason_of
from .rules_in_force import RulesInForce
from .worker import DeathRecord, Worker

WAIT_FOR_WORKER_S = 5.0
"""How long a change waits for a worker if none is running, in seconds."""
_EXIT_S = 2.0  # between the end of a channel and the supervisor's report of the exit
_PREPARE_S = 9.0  # less than the 10 s for which a worker keeps a prepared change
_REFUSED_RULES = 16  # the most rules that a restarted worker may refuse
_RETRY_S = 10.0

_Connected = tuple[Worker, WorkerChannel]
"""A worker, and the channel to its current incarnation."""

_log = logger_of("worker")


class WorkerPool:
    """All workers of the daemon, running or not."""

    def __init__(
        self,
        count: int,
        rules: RulesInForce,
        bus: EventBus,
        request_restart: Callable[[int, int], None],
        on_event: Callable[[int, WorkerMessage], None],
    ) -> None:
        """Create the records of all workers; none is connected yet.

        Args:
            count: the number of workers.
            rules: the rules in force.
            bus: where starts and deaths are published.
            request_restart: asks the supervisor to kill a worker, by its number and process id.
            on_event: called with a worker's number and each event from it.
        """
        self.workers = [Worker(number) for number in range(count)]
        self.lock = asyncio.Lock()
        """Held during a change of the rules, and while workers must all have the same rules."""
        self.log_levels: Mapping[Facility, str] = dict.fromkeys(WORKER_FACILITIES, "info")
        """The least severe level of each facility that workers log."""
        self.on_rules_given: Callable[[Worker, WorkerChannel], Awaitable[None]] | None = None
        """Called for each worker that has got the rules after its start."""
        self._rules = rules
        self._events = bus
        self._request_restart = request_restart
        self._on_event = on_event
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_started = False

    @property
    def running(self) -> list[Worker]:
        """The workers that relay."""
        return [worker for worker in self.workers if worker.is_running]

    def refusal_of(self, rule_id: str) -> InputTrouble | None:
        """Why a worker lacks a rule; None if none has refused it."""
        refused = (each.refused_rules for each in self.workers)
        reason = next((reasons[rule_id] for reasons in refused if rule_id in reasons), None)
        return None if reason is None else InputTrouble("unresolved", reason)

    async def start(self) -> None:
        """Give all connected workers the rules, and from now on each one that connects."""
        self._is_started = True
        async with self.lock:
            await self._update_all()

    def check_all_relay(self) -> None:
        """Check that each worker has all rules, before another daemon ends.

        Raises:
            EngineError: one has not.
        """
        for worker in self.workers:
            for rule_id, reason in worker.refused_rules.items():
                known = self._rules.rules.get(rule_id)
                title = rule_id if known is None else known.title
                raise EngineError(f"worker {worker.number} refuses rule {title}: {reason}")
            if not worker.is_current:
                raise EngineError(f"worker {worker.number} did not accept the rules")

    def connect_worker(self, started: WorkerStarted, descriptor: int) -> None:
        """Record a worker that runs, and take ownership of the channel to it.

        An older channel to the worker is closed.
        """
        channel = socket.socket(fileno=descriptor)
        channel.setblocking(False)
        worker = self.workers[started.number]
        if worker.channel is not None:
            old, worker.channel = worker.channel, None
            old.close()
        if (started.pid, started.incarnation) != (worker.pid, worker.incarnation):
            worker.started_at = time.time() if started.started_at is None else started.started_at
            text = f"worker {started.number} runs as process {started.pid}"
            self._events.publish("worker", "started", text, number=started.number, pid=started.pid)
        worker.pid, worker.incarnation, worker.cpu = started.pid, started.incarnation, started.cpu
        worker.restart_in_ms, worker.is_current = None, False
        worker.deaths = max(worker.deaths, started.deaths)
        if worker.last_death is None and started.last_death is not None:
            last = started.last_death
            worker.last_death = DeathRecord(
                last.at, last.monotonic_s, last.cause, was_observed=False
            )
        worker.channel = WorkerChannel(
            channel,
            lambda message: self._on_event(started.number, message),
            lambda closed: self._handle_close(worker, closed),
        )
        if self._is_started:
            self._spawn(self._resume(worker))

    def record_exit(self, exited: WorkerExited) -> None:
        """Record that a worker has exited, as the supervisor reports it."""
        worker = self.workers[exited.number]
        if worker.pid == exited.pid:
            worker.pid, worker.is_current = None, False
            if worker.channel is not None:
                worker.channel.close()
        worker.deaths, worker.restart_in_ms = exited.deaths, exited.restart_in_ms
        dropped = worker.kernel_dropped_frames
        worker.last_death = DeathRecord(
            exited.at, exited.monotonic_s, exited.cause, kernel_dropped_frames=dropped
        )
        number, pid = exited.number, exited.pid
        text = f"worker {number}, process {pid}: {exited.cause}"
        self._events.publish("worker", "died", text, number=number, pid=pid, cause=exited.cause)
        _log.warning("%s", text, extra={"worker": number})
        if exited.restart_in_ms:
            text = f"worker {number} starts again in {exited.restart_in_ms} ms"
            self._events.publish("worker", "restarting", text, number=number, pid=pid)

    async def change(
        self, body: bytes, rule_ids: Iterable[str], title_of: Callable[[str], str] = str
    ) -> None:
        """Make a change in all workers; the caller holds the lock, and then updates the rulebook.

        Args:
            body: the request to prepare it, see `prepare_body`.
            rule_ids: the changed rules.
            title_of: how clients know one of them, by its id.

        Raises:
            RuleError, InterfaceError, RightsError, EngineError, RpcError: nothing has changed.
        """
        prepared = await self._prepare(body, title_of)
        if not prepared:  # all workers died; try their successors, once
            prepared = await self._prepare(body, title_of)
        if not prepared:
            raise EngineError("every worker died while it prepared the change; nothing has changed")
        errors = await self._request_each(prepared, {"do": "commit"})
        if all(error is not None for error in errors):
            raise EngineError("no worker could commit the change; nothing has changed")
        for (worker, channel), error in zip(prepared, errors, strict=True):
            if error is not None:
                self._replace(worker, channel, f"it could not commit a prepared change: {error}")
        changed = set(rule_ids)
        for worker in self.workers:
            refused = worker.refused_rules.items()
            worker.refused_rules = {each: why for each, why in refused if each not in changed}

    async def set_log_levels(self, levels: Mapping[Facility, str]) -> None:
        """Make all workers log these levels and more severe ones."""
        self.log_levels = levels
        await self._request_each(self._connected, {"do": "log", "levels": levels})

    async def request_from_each(
        self, request_of: Callable[[Worker], tuple[dict[str, Any], int | None]]
    ) -> None:
        """Send each worker a request, with a descriptor, between two changes of the rules.

        A worker that dies meanwhile is left out.

        Raises:
            RuleError, InterfaceError, RightsError, EngineError, RpcError: a worker refused.
        """
        async with self.lock:
            asked = self._connected
            errors = await asyncio.gather(
                *(
                    self._await_answer(
                        worker,
                        channel,
                        channel.request(members, ANSWER_S, descriptor=descriptor),
                    )
                    for worker, channel in asked
                    for members, descriptor in [request_of(worker)]
                )
            )
        refusals = [error for error in errors if isinstance(error, WorkerRefused)]
        if refusals:
            raise error_from(refusals[0].failure)

    async def stop(self, timeout_s: float) -> None:
        """Stop all engines once they have sent what they have received; counters remain."""
        stops = (channel.request({"do": "stop"}, timeout_s) for _worker, channel in self._connected)
        await asyncio.gather(*stops, return_exceptions=True)

    def restart(self, worker: Worker, reason: str) -> None:
        """Have a worker killed that hangs; its successor gets the rules."""
        if worker.channel is not None:
            self._replace(worker, worker.channel, reason)

    async def _prepare(self, body: bytes, title_of: Callable[[str], str]) -> list[_Connected]:
        """Prepare a change; return the workers that can commit it, none if all have died."""
        asked = await self._wait_for_workers()
        errors = await asyncio.gather(
            *(
                self._await_answer(worker, channel, channel.request_encoded(body, _PREPARE_S))
                for worker, channel in asked
            )
        )
        prepared = [each for each, error in zip(asked, errors, strict=True) if error is None]
        refusals = [error for error in errors if isinstance(error, WorkerRefused)]
        if not refusals:
            return prepared
        errors = await self._request_each(prepared, {"do": "abort"})
        for (worker, channel), error in zip(prepared, errors, strict=True):
            if error is not None:
                self._replace(worker, channel, "it could not abort a prepared change")
        raise error_from(refusals[0].failure, title_of)

    async def _wait_for_workers(self) -> list[_Connected]:
        """The workers with the current rules; waits for the first one if there is none."""
        deadline_s = time.monotonic() + WAIT_FOR_WORKER_S
        while not (current := [each for each in self._connected if each[0].is_current]):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise EngineError("no worker is running; nothing has changed")
            await self._update_all()
            if not any(worker.is_current for worker in self.running):
                await asyncio.sleep(min(left_s, 0.02))
        return current

    @property
    def _connected(self) -> list[_Connected]:
        return [(each, each.channel) for each in self.running if each.channel is not None]

    async def _request_each(
        self, asked: Sequence[_Connected], request: dict[str, Any]
    ) -> list[WorkerRefused | ChannelLost | None]:
        """Send a request to each worker; return the error of each, None where it succeeded."""
        return await asyncio.gather(
            *(
                self._await_answer(worker, channel, channel.request(request, ANSWER_S))
                for worker, channel in asked
            )
        )

    async def _await_answer(
        self, worker: Worker, channel: WorkerChannel, answer: Awaitable[object]
    ) -> WorkerRefused | ChannelLost | None:
        """Await the answer to a request; return its error, None where it succeeded."""
        try:
            await answer
        except ChannelSilent as silence:
            self._replace(worker, channel, str(silence))
            return silence
        except (ChannelLost, WorkerRefused) as error:
            return error
        return None

    def _replace(self, worker: Worker, channel: WorkerChannel, reason: str) -> None:
        """Have an incarnation killed, unless its successor has connected already."""
        if worker.channel is not channel:
            return
        about = {"worker": worker.number}
        _log.warning("worker %d is restarted: %s", worker.number, reason, extra=about)
        worker.is_current, worker.channel = False, None
        channel.close()
        if worker.pid is not None:
            self._request_restart(worker.number, worker.pid)

    def _handle_close(self, worker: Worker, channel: WorkerChannel) -> None:
        if worker.channel is channel:
            worker.is_current = False
            self._spawn(self._kill_if_disconnected(worker, channel))

    async def _kill_if_disconnected(self, worker: Worker, channel: WorkerChannel) -> None:
        """Kill a worker that keeps running without a channel: its rules could not be changed."""
        await asyncio.sleep(_EXIT_S)
        if worker.channel is channel and worker.pid is not None:
            self._replace(worker, channel, "it closed its channel")

    async def _resume(self, worker: Worker) -> None:
        """Make a restarted worker relay at once, and update it after a change in progress."""
        await self._give_rules(worker)
        async with self.lock:
            await self._update_all()

    async def _update_all(self) -> None:
        """Give the rules to all connected workers that lack the current ones; holds the lock."""
        await asyncio.gather(*(self._update(each) for each in self.workers if not each.is_current))

    async def _update(self, worker: Worker) -> None:
        channel = await self._give_rules(worker)
        if channel is None:
            return
        worker.is_current = True
        if worker.refused_rules:
            self._spawn(self._retry_refused(worker, channel))

    async def _give_rules(self, worker: Worker) -> WorkerChannel | None:
        """Give a worker the rules in force; return its channel, None if it did not accept them."""
        async with worker.rules_lock:
            channel = worker.channel
            if channel is None or channel.is_closed:
                return None
            error = await self._await_answer(worker, channel, self._send_all(worker, channel))
            if error is None:
                worker.rules_channel = channel
                self._record_recovery(worker)
                return channel
            if not channel.is_closed:
                self._replace(worker, channel, f"it did not accept the rules: {error}")
            return None

    def _record_recovery(self, worker: Worker) -> None:
        death = worker.last_death
        if death is None or death.is_recovered:
            return
        death.is_recovered = True
        if worker.had_rules and not death.was_observed:
            return  # it had recovered before this control process started
        death.outage_ms = max(0, round((time.monotonic() - death.monotonic_s) * 1000))
        text = f"worker {worker.number} relays again after {death.outage_ms} ms"
        self._events.publish("worker", "restored", text, number=worker.number, pid=worker.pid)
        _log.info("%s", text, extra={"worker": worker.number})

    async def _send_all(self, worker: Worker, channel: WorkerChannel) -> None:
        """Send a worker all rules, and what else it has to do."""
        await self._send_rules(worker, channel)
        if self.on_rules_given is not None:
            await self.on_rules_given(worker, channel)

    async def _send_rules(self, worker: Worker, channel: WorkerChannel) -> None:
        """Send a worker all rules, without those that it refuses one by one."""
        hello = _checked_hello(worker, await channel.request({"do": "hello"}, ANSWER_S))
        worker.had_rules, worker.engine = hello["revision"] > 0, hello["engine"]
        await channel.request({"do": "log", "levels": self.log_levels}, ANSWER_S)
        # The order matters: a change in progress updates the rules before their revision. With an
        # old revision and new rules the worker is sent the rules once more; with a new revision and
        # old rules it would be taken for current.
        revision = self._rules.revision
        shaping, rules = self._rules.shaping, self._rules.rules
        if hello["revision"] == revision and set(hello["rules"]) == rules.keys():
            worker.refused_rules = {}
            return
        refused_rules: dict[str, str] = {}
        while True:
            add = (  # encoded by the thread, since thousands of rules would delay clients
                (rule_id, rule.enabled, rule.members)
                for rule_id, rule in rules.items()
                if rule_id not in refused_rules
            )
            encode_all = partial(prepare_body, revision, whole=True, remove=(), shaping=shaping)
            body = await asyncio.to_thread(encode_all, add=add)
            try:
                await channel.request_encoded(body, _PREPARE_S)
                break
            except WorkerRefused as refusal:
                rule_id = refusal.failure["rule"]
                is_new = rule_id in rules and rule_id not in refused_rules
                if rule_id is None or not is_new or len(refused_rules) >= _REFUSED_RULES:
                    raise
                refused_rules[rule_id] = reason_of(refusal.failure)
                if worker.refused_rules.get(rule_id) != refused_rules[rule_id]:
                    about = {"worker": worker.number, "rule": rule_id}
                    text, title = "worker %d lacks rule %s: %s", rules[rule_id].title
                    _log.error(text, worker.number, title, refused_rules[rule_id], extra=about)
        await channel.request({"do": "commit"}, ANSWER_S)
        # Only now, so that clients see the reasons of the last attempt until this one succeeds.
        worker.refused_rules = refused_rules

    async def _retry_refused(self, worker: Worker, channel: WorkerChannel) -> None:
        """Send all rules again after a while, since the reason of a refusal may be over."""
        await asyncio.sleep(_RETRY_S)
        async with self.lock:
            if worker.channel is channel and worker.is_current and worker.refused_rules:
                worker.is_current = False
                await self._update(worker)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _checked_hello(worker: Worker, answer: dict[str, Any]) -> WorkerHello:
    try:
        hello = read_hello(answer)
    except ValueError:
        raise ChannelLost("its hello is malformed") from None
    if hello["protocol"] != PROTOCOL or hello["number"] != worker.number:
        raise ChannelLost("its hello has another number or version of the protocol")
    return hello
