"""The control process, from its first message to its last.

Owns how its parts come together, and what each message of the supervisor sets off. What the parts
do is theirs.
"""

import asyncio
import gc
import logging
import os
import socket
import sys
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from ...errors import EngineError, McrError
from ...protocol.constants import REFUSED_START
from ...rules.model import counted
from . import limits
from . import supervisor_channel as words
from .api.access import AccessPolicy
from .api.errors import RpcError
from .api.jsonrpc import Dispatcher
from .api.methods import Daemon, Methods
from .api.server import Server
from .arguments import Arguments
from .event_sequence import EventSequence
from .events import EventBus
from .log import Log
from .rules.rulebook import Rulebook
from .rules.snapshot import LogLevels, read_all
from .rules.transactions import Transactions
from .sandbox import ALL_HIDDEN
from .summary import final_summary
from .supervisor_channel import SupervisorChannel
from .workers.messages import WorkerMessage
from .workers.pool import WorkerPool
from .workers.reports import WorkerReports, interfaces_of, totals_of
from .workers.status import RuleStatusTracker

_LOOK_AT_LEAST_EVERY_S = 0.5
_LOOK_SHARE = 20  # of the time goes on between two looks at the counters, of what one takes
_TAKE_UP_EVERY_S = 2.0
_FINISH_S = 5.0
_DESCRIPTORS = {words.Restore: (0, 1), words.Config: (1, 1), words.WorkerStarted: (1, 1)}
"""How many come with a message, at least and at most; none with others."""
_SWITCH_S = 0.001
"""After so long a thread that judges rules lets the event loop go on."""
_GC_THRESHOLDS = (50_000, 20, 100)  # readings of thousands of rules are no garbage

_log = logging.getLogger("mcr.control")


class ControlApp:
    """All of it, inside a running event loop."""

    def __init__(self, arguments: Arguments, hidden: str) -> None:
        """Put the parts together; nobody is served yet. `hidden` is said in the log."""
        self._arguments = arguments
        self._began_s = time.monotonic()
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        numbers = EventSequence(arguments.numbers)
        self._events = EventBus(numbers.last(), numbers.note)
        self._events.hold()  # until it is known which numbers an earlier daemon has used
        self._log = Log(self._tell_log)
        self._log.levels = LogLevels(everything=arguments.log_level)
        self._log.install()
        _log.log(logging.DEBUG if hidden == ALL_HIDDEN else logging.WARNING, "%s", hidden)
        self._supervisor = SupervisorChannel(
            arguments.supervisor_channel, self._take, self._orphaned
        )
        self._kept: int | None = None
        self._kept_in_use = False
        self._config: int | None = None
        self._has_begun = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._put_together(arguments)

    def _put_together(self, arguments: Arguments) -> None:
        self._book = Rulebook(arguments.ingress)
        self._status = RuleStatusTracker(self._events)
        self._pool = WorkerPool(
            arguments.workers,
            self._book,
            self._events,
            self._supervisor.ask_restart,
            self._told,
        )
        self._judge, self._lookups, self._side = (
            ThreadPoolExecutor(threads, f"mcr-{name}")
            for name, threads in (("judge", 1), ("lookup", limits.HOST_LOOKUPS), ("side", 2))
        )
        counting = ThreadPoolExecutor(1, "mcr-counters")
        self._counters = WorkerReports(self._pool, self._book, counting, self._status.get)
        self._changes = Transactions(
            self._book,
            self._pool,
            self._events,
            self._status,
            self._log,
            self._supervisor,
            judge=self._judge,
            lookups=self._lookups,
            hosts=arguments.hosts,
        )
        self._connections = self._serving()

    async def run(self) -> int:
        """Serve until the end; the exit code."""
        asyncio.get_running_loop().set_exception_handler(_log_exception)
        sys.setswitchinterval(_SWITCH_S)
        gc.set_threshold(*_GC_THRESHOLDS)
        gc.collect()
        gc.freeze()
        self._supervisor.start()
        code = await self._ended
        self._log.flush_to_stderr(1.0)
        return code

    def _serving(self) -> Server:
        arguments = self._arguments
        methods = Methods(
            Daemon(
                ingress=arguments.ingress,
                book=self._book,
                pool=self._pool,
                changes=self._changes,
                counters=self._counters,
                bus=self._events,
                status=self._status,
                log=self._log,
                executor=self._side,
                set_levels=self._set_levels,
                shut_down=self._supervisor.ask_shutdown,
                began_s=self._began_s,
            )
        )
        rpc = Dispatcher(methods.table())
        listener = socket.socket(fileno=arguments.listener)
        return Server(
            listener, AccessPolicy(arguments.starter_uid, arguments.socket_gid), rpc.answer
        )

    def _take(self, word: words.Word, descriptors: list[int]) -> None:
        """Do what the supervisor says, or at the start, note it."""
        least, most = _DESCRIPTORS.get(type(word), (0, 0))
        number = word.number if isinstance(word, words.WorkerStarted | words.WorkerExited) else 0
        known = 0 <= number < self._arguments.workers
        if not (known and least <= len(descriptors) <= most):
            for descriptor in descriptors:
                os.close(descriptor)
            _log.error("the supervisor's message %r does not fit", word.kind)
        elif isinstance(word, words.Restore | words.Config):
            self._take_rules(word, descriptors)
        elif isinstance(word, words.WorkerStarted):
            self._status.forget_worker(word.number)
            self._pool.came(word, descriptors[0])
        elif isinstance(word, words.WorkerExited):
            self._pool.ended(word)
        elif isinstance(word, words.Note):
            level = logging.getLevelNamesMapping()[word.level.upper()]
            logging.getLogger("mcr.supervisor").log(level, "%s", word.text)
        elif isinstance(word, words.ResolveHosts):
            self._spawn(self._look_up())
        elif isinstance(word, words.Drain):
            self._spawn(self._drain())
        elif not self._has_begun:
            self._has_begun = True
            self._spawn(self._begin())

    def _take_rules(self, word: words.Restore | words.Config, descriptors: list[int]) -> None:
        if isinstance(word, words.Restore):
            self._kept = descriptors[0] if descriptors else None
            self._kept_in_use = word.in_use
        elif self._has_begun:
            self._spawn(self._reconfigure(descriptors[0]))
        else:
            self._config = descriptors[0]

    async def _begin(self) -> None:
        """Take over the rules, give them to the workers, and serve."""
        try:
            if self._kept is not None:
                await self._restore(self._kept)
            self._events.go_on_after(0)
            await self._pool.begin()
            if self._config is not None:
                await self._configure(self._config)
        except (McrError, RpcError) as error:
            _log_lines(error)
            self._end(1 if isinstance(error, EngineError) else REFUSED_START)
            return
        self._changes.begin()
        for warning in await self._changes.keep():
            _log.warning("%s", warning)
        self._connections.start()
        self._supervisor.say_ready(len(self._book.rules) + len(self._book.aside))
        self._spawn(self._watch_counters())
        self._spawn(self._take_up())

    async def _restore(self, descriptor: int) -> None:
        try:
            whole = read_all(descriptor)
            found = await self._changes.restore(whole, in_use=self._kept_in_use)
        except McrError as error:
            state = self._arguments.state
            if state is None:
                raise McrError(f"the rules that were kept cannot be read: {error}") from None
            fix = "repair or move away the file"
            raise McrError(f"the state file {state} cannot be used: {error}; {fix}") from None
        _log.info("revision %d: %s taken over", found.revision, counted(len(found.entries)))

    async def _configure(self, descriptor: int) -> None:
        draft = await self._changes.load(read_all(descriptor))
        for warning in draft.warnings:
            _log.warning("%s", warning)

    async def _reconfigure(self, descriptor: int) -> None:
        try:
            await self._configure(descriptor)
        except (McrError, RpcError) as error:
            _log_lines(error)
            _log.error("the configuration is refused: the rules stay as they were")

    async def _look_up(self) -> None:
        try:
            changes = await self._changes.resolve_hosts()
        except (McrError, RpcError) as error:
            _log.warning("host names looked up, nothing changed: %s", error)
            return
        if not changes:
            _log.info("host names looked up: all addresses are as before")

    async def _set_levels(self, levels: LogLevels) -> None:
        self._log.set_levels(levels)
        await self._pool.tell_log_level(self._log.level_of("workers", "interfaces"))
        async with self._pool.lock:
            for warning in await self._changes.keep():
                _log.warning("%s", warning)

    async def _watch_counters(self) -> None:
        """Know all the time what workers have counted, for when one of them is gone."""
        while True:
            began_s = time.monotonic()
            rules, revision = len(self._book.rules), self._book.revision
            await self._counters.collect(rules, revision, _LOOK_AT_LEAST_EVERY_S)
            took_s = time.monotonic() - began_s
            await asyncio.sleep(max(_LOOK_AT_LEAST_EVERY_S, took_s * _LOOK_SHARE))

    async def _take_up(self) -> None:
        """The host may have become what some rules need."""
        while True:
            await asyncio.sleep(_TAKE_UP_EVERY_S)
            await self._changes.take_up()

    async def _drain(self) -> None:
        """Stop in order: nobody comes in, workers send what they have, the last report."""
        if self._changes.is_draining:
            return
        self._changes.is_draining = True
        with suppress(ValueError):  # not served yet
            self._connections.stop_accepting()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._pool.lock.acquire(), _FINISH_S)
        await self._pool.stop(_FINISH_S)
        rules = self._book.rules
        collected = await self._counters.collect(len(rules), self._book.revision)
        stats = await self._counters.rule_stats(collected, rules)
        totals = totals_of(interfaces_of(collected), stats)
        self._log.say(final_summary(totals, stats))
        self._log.flush_to_stderr(1.0)
        await self._connections.close(_FINISH_S)
        for warning in await self._changes.end():
            _log.warning("%s", warning)
        await self._supervisor.say_drained()
        self._end(0)

    def _told(self, number: int, message: WorkerMessage) -> None:
        self._status.update(number, message, self._book.rules)

    def _tell_log(self, level: str, facility: str, text: str) -> None:
        self._events.publish("log", "record", text, level=level, facility=facility)

    def _orphaned(self) -> None:
        """The supervisor is gone: leave nothing behind that would stop the next one."""
        with suppress(OSError):
            os.unlink(self._arguments.socket)
        os._exit(1)

    def _end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _log_lines(error: Exception) -> None:
    for line in str(error).splitlines():
        _log.error("%s", line)


def _log_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody waits for; asyncio's own logger is not heard here."""
    _log.error("%s: %r", context.get("message"), context.get("exception"))
