"""The control process: its parts, its start and shutdown, and the supervisor's messages."""

import asyncio
import gc
import logging
import os
import socket
import sys
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, cast

from ..._native import CounterPages
from ...alarms.notice import Notice
from ...choices import Facility, Level
from ...config.reader import Configuration
from ...errors import ConfigError, EngineError, McrError, RuleError
from ...log_levels import NUMBERS, logger_of
from ...protocol.constants import REFUSED_START
from ...protocol.results import LogLevels
from ...protocol.summary import final_report
from ...rules.model import counted
from ...stats.traffic_lines import INTERVAL_S, TrafficLines, TrafficSums
from ..journal import Journal
from . import limits
from .api.access import AccessPolicy
from .api.errors import RpcError
from .api.jsonrpc import Dispatcher
from .api.methods import Daemon, Methods
from .api.server import Server
from .arguments import ControlArguments
from .event_sequence import EventSequence
from .events import EventBus, EventFields
from .handover import ControlHandover
from .log import ControlLog
from .rules.configurator import Configurator
from .rules.rulebook import Rulebook
from .rules.snapshot import read_all
from .rules.transactions import Transactions
from .sandbox import ALL_HIDDEN
from .supervisor_channel import (
    Check,
    Config,
    Drain,
    Handover,
    Note,
    ResolveHosts,
    Restore,
    SupervisorChannel,
    SupervisorMessage,
    WorkerExited,
    WorkerStarted,
)
from .taps import ClientTaps
from .workers.counter_reader import CounterReader
from .workers.messages import WORKER_FACILITIES, WorkerMessage
from .workers.pool import WorkerPool
from .workers.status import RuleStatusTracker

_COLLECT_INTERVAL_S = 0.5
_COLLECT_PAUSE_FACTOR = 20  # the least interval, in multiples of the time that a collection takes
_RETRY_INTERVAL_S = 2.0
_FINISH_S = 5.0
_DESCRIPTORS = {Restore: (0, 1), Config: (0, 1), WorkerStarted: (1, 1)}
"""The least and most descriptors of each message; other messages have none."""
_SWITCH_S = 0.001
"""The interval after which a thread that checks rules yields to the event loop."""
_GC_THRESHOLDS = (50_000, 20, 100)  # reports of thousands of rules allocate much, but no garbage

_log = logger_of("control")


class ControlApp:
    """The control process; lives in a running event loop."""

    def __init__(
        self, arguments: ControlArguments, hidden: str, journal: Journal | None = None
    ) -> None:
        """Create the parts; clients are not served yet.

        Args:
            arguments: from the command line.
            hidden: how much the sandbox hides, for the log.
            journal: gets the log, where the journal reads standard error.
        """
        self._arguments = arguments
        self._began_s = time.monotonic()
        self._exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        sequence = EventSequence(arguments.numbers)
        self._events = EventBus(sequence.last(), sequence.record)
        self._events.hold()  # until the last event number of an earlier daemon is known
        levels, log_format = arguments.log_level, arguments.log_format
        self._log = ControlLog(self._publish_record, levels, log_format, journal)
        self._log.install()
        level = logging.DEBUG if hidden == ALL_HIDDEN else logging.WARNING
        logger_of("security").log(level, "%s", hidden)
        self._supervisor = SupervisorChannel(
            arguments.supervisor_channel, self._handle_message, self._exit_orphaned
        )
        self._snapshot: int | None = None
        self._snapshot_in_use = False
        self._config: tuple[Config, int] | None = None
        self._has_begun = False
        self._takes_over = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._create_parts(arguments)

    def _create_parts(self, arguments: ControlArguments) -> None:
        self._book = Rulebook(arguments.ingress, uncounted=arguments.uncounted)
        self._status = RuleStatusTracker(self._events)
        self._pool = WorkerPool(
            arguments.workers,
            self._book,
            self._events,
            self._supervisor.request_restart,
            self._update_status,
        )
        self._pool.log_levels = self._log.levels_of(*WORKER_FACILITIES)
        self._checks, self._lookups, self._side = (
            ThreadPoolExecutor(threads, f"mcr-{name}")
            for name, threads in (("judge", 1), ("lookup", limits.HOST_LOOKUPS), ("side", 2))
        )
        statistics = ThreadPoolExecutor(1, "mcr-counters")
        self._counters = CounterReader(
            _mapped(arguments.pages),
            self._pool,
            self._book,
            ingress=arguments.ingress,
            executor=statistics,
            troubles=self._status.get,
            began_s=self._began_s,
            expect=arguments.expectation,
        )
        self._changes = Transactions(
            self._book,
            self._pool,
            self._events,
            self._status,
            self._log,
            self._supervisor,
            checks=self._checks,
            lookups=self._lookups,
            hosts=arguments.hosts,
        )
        self._configurator = Configurator(
            self._changes, self._supervisor, arguments.config, arguments.options
        )
        self._servers = self._create_servers()
        self._handover = ControlHandover(
            self._pool, self._changes, self._servers, self._supervisor, self._exit
        )

    async def run(self) -> int:
        """Serve until the shutdown; return the exit code."""
        asyncio.get_running_loop().set_exception_handler(_log_exception)
        sys.setswitchinterval(_SWITCH_S)
        gc.set_threshold(*_GC_THRESHOLDS)
        gc.collect()
        gc.freeze()
        self._supervisor.start()
        code = await self._exit_code
        self._log.report_suppressed(at_once=True)
        self._log.flush_to_stderr(1.0)
        return code

    def _create_servers(self) -> list[Server]:
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
                taps=ClientTaps(self._pool),
                executor=self._side,
                set_levels=self._set_levels,
                shut_down=self._supervisor.request_shutdown,
                configurator=self._configurator,
            )
        )
        starter_uid, observers = arguments.starter_uid, arguments.observers
        ends = [(arguments.listener, arguments.socket_gid, methods.table())]
        if observers is not None:
            ends.append((observers.listener, observers.gid, methods.observer_table()))
        return [
            Server(
                socket.socket(fileno=descriptor),
                AccessPolicy(starter_uid, gid),
                Dispatcher(table).answer,
            )
            for descriptor, gid, table in ends
        ]

    def _handle_message(self, message: SupervisorMessage, descriptors: list[int]) -> None:
        """Act on a message; at the start, record the rules until `Begin` arrives."""
        least, most = _DESCRIPTORS.get(type(message), (0, 0))
        number = message.number if isinstance(message, WorkerStarted | WorkerExited) else 0
        is_known = 0 <= number < self._arguments.workers
        if not (is_known and least <= len(descriptors) <= most):
            for descriptor in descriptors:
                os.close(descriptor)
            _log.error("the supervisor sent an invalid message of kind %r", message.kind)
        elif isinstance(message, Restore | Config):
            self._accept_rules(message, descriptors)
        elif isinstance(message, WorkerStarted):
            self._status.forget_worker(message.number)
            self._pool.connect_worker(message, descriptors[0])
        elif isinstance(message, WorkerExited):
            self._pool.record_exit(message)
        elif isinstance(message, Note):
            logger_of(message.facility).log(NUMBERS[message.level], "%s", message.text)
        else:
            self._obey(message)

    def _obey(self, message: SupervisorMessage) -> None:
        """Begin what a message without descriptors requests."""
        if isinstance(message, ResolveHosts):
            self._spawn(self._resolve_hosts(message.number))
        elif isinstance(message, Drain):
            self._spawn(self._drain())
        elif isinstance(message, Handover):
            self._handover.do(message.kind)
        elif isinstance(message, Check):
            self._spawn(self._check())
        elif not self._has_begun:
            self._has_begun = True
            self._spawn(self._begin())

    def _accept_rules(self, message: Restore | Config, descriptors: list[int]) -> None:
        if isinstance(message, Restore):
            self._snapshot = descriptors[0] if descriptors else None
            self._snapshot_in_use = message.in_use
        elif self._has_begun or not descriptors:
            self._spawn(self._configurator.reload(message, descriptors))
        else:
            self._config = message, descriptors[0]

    async def _begin(self) -> None:
        """Restore the rules, give them to the workers, and serve clients."""
        try:
            configuration = None if self._takes_over else await self._load()
            self._events.resume_after(0)
            await self._pool.start()
            if self._takes_over:
                self._pool.check_all_relay()
            if configuration is not None:
                await self._configure(configuration)
        except (McrError, RpcError) as error:
            _log_lines(error)
            self._exit(1 if isinstance(error, EngineError) else REFUSED_START)
            return
        self._changes.begin()
        for warning in await self._changes.keep():
            _log.warning("%s", warning)
        for server in self._servers:
            server.start()
        self._supervisor.send_ready(len(self._book.rules) + len(self._book.aside))
        self._spawn(self._collect_counters())
        if self._arguments.log_stats:
            self._spawn(self._log_traffic())
        self._spawn(self._retry_set_aside())

    async def _load(self) -> Configuration | None:
        """Read the configuration and the rules that were kept."""
        configuration = await self._read_configuration()
        if self._snapshot is not None:
            await self._restore(self._snapshot, configuration)
        return configuration

    async def _check(self) -> None:
        """Read the rules of the daemon that is taken over; its workers relay by them."""
        self._takes_over, self._handover.owns_paths = True, False
        try:
            await self._load()
        except (McrError, RpcError) as error:
            _log_lines(error)
            self._exit(REFUSED_START)
            return
        self._supervisor.send_step(b"V")

    async def _read_configuration(self) -> Configuration | None:
        """The configuration, if there is one and it is not refused."""
        if self._config is None:
            return None
        message, descriptor = self._config
        try:
            return await self._configurator.read(message.include, descriptor)
        except ConfigError as error:
            self._keep_going(error)
        return None

    async def _configure(self, configuration: Configuration) -> None:
        try:
            await self._configurator.apply(configuration)
        except RuleError as error:
            self._keep_going(error)

    def _keep_going(self, error: RuleError) -> None:
        """Start without the configuration if the user wants that; else raise the error."""
        if not self._arguments.keep_going:
            raise error
        self._configurator.fail(error)
        _log.log(
            NUMBERS["alert"], "THE CONFIGURATION IS REFUSED: starting with the rules that were kept"
        )

    async def _restore(self, descriptor: int, configuration: Configuration | None) -> None:
        try:
            content = read_all(descriptor)
            in_use = self._snapshot_in_use
            snapshot = await self._changes.restore(
                content, in_use=in_use, configuration=configuration
            )
        except ConfigError:
            raise
        except McrError as error:
            state = self._arguments.state
            if state is None:
                raise McrError(f"the rule set snapshot cannot be read: {error}") from None
            fix = "repair or move away the file"
            raise McrError(f"the state file {state} cannot be used: {error}; {fix}") from None
        _log.info("restored revision %d: %s", snapshot.revision, counted(len(snapshot.entries)))

    async def _resolve_hosts(self, number: int) -> None:
        try:
            if not await self._changes.resolve_hosts():
                _log.info("resolved host names again; all addresses are unchanged")
        except (McrError, RpcError) as error:
            _log.warning("resolved host names again; nothing has changed: %s", error)
        self._supervisor.send_reloaded(number)

    async def _set_levels(self, levels: LogLevels) -> None:
        self._log.set_levels(levels)
        await self._pool.set_log_levels(self._log.levels_of(*WORKER_FACILITIES))
        async with self._pool.lock:
            for warning in await self._changes.keep():
                _log.warning("%s", warning)

    async def _collect_counters(self) -> None:
        """Read the workers' counters regularly, so that recent counts of each exist."""
        while True:
            began_s = time.monotonic()
            self._log.report_suppressed()
            reading = await self._counters.read(_COLLECT_INTERVAL_S)
            for notice in await self._counters.watch(reading):
                self._publish_notice(notice)
            elapsed_s = time.monotonic() - began_s
            await asyncio.sleep(max(_COLLECT_INTERVAL_S, elapsed_s * _COLLECT_PAUSE_FACTOR))

    async def _log_traffic(self) -> None:
        """Log the traffic of all interfaces and outputs every second."""
        lines, ingress = TrafficLines(), self._arguments.ingress
        logger, due_s = logger_of("stats"), time.monotonic()
        while True:
            if logger.isEnabledFor(logging.INFO):
                reading = await self._counters.read()
                sums = TrafficSums.of_reading(reading.began_s, reading.counters, ingress)
                for line in lines.of(sums):
                    logger.info("%s", line, extra={"is_periodic": True})
            due_s = max(due_s + INTERVAL_S, time.monotonic())
            await asyncio.sleep(due_s - time.monotonic())

    async def _retry_set_aside(self) -> None:
        """Retry rules that were set aside: they may fit this host by now."""
        while True:
            await asyncio.sleep(_RETRY_INTERVAL_S)
            await self._changes.retry()

    async def _drain(self) -> None:
        """Shut down cleanly: refuse new clients, let workers send the rest, log the summary."""
        if self._changes.is_draining:
            return
        self._changes.is_draining = True
        for server in self._servers:
            with suppress(ValueError):  # the server has not started yet
                server.stop_accepting()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._pool.lock.acquire(), _FINISH_S)
        await self._pool.stop(_FINISH_S)
        rules = self._book.rules
        reading = await self._counters.read()
        stats = await self._counters.daemon_stats(reading, rules, self._book.revision)
        self._log.say(final_report(stats))
        self._log.flush_to_stderr(1.0)
        await asyncio.gather(*(server.close(_FINISH_S) for server in self._servers))
        for warning in await self._changes.end():
            _log.warning("%s", warning)
        await self._supervisor.send_drained()
        self._exit(0)

    def _update_status(self, number: int, message: WorkerMessage) -> None:
        self._status.update(number, message, self._book.rules)

    def _publish_notice(self, notice: Notice) -> None:
        if notice.kind != "log":
            fields = cast(EventFields, dict(notice.fields))
            self._events.publish(notice.kind, notice.event, notice.text, **fields)
        notice.log()

    def _publish_record(self, level: Level, facility: Facility, text: str) -> None:
        self._events.publish("log", "record", text, level=level, facility=facility)

    def _exit_orphaned(self) -> None:
        """Exit because the supervisor is dead; leave nothing that prevents the next start."""
        for path in self._arguments.paths if self._handover.owns_paths else ():
            with suppress(OSError):
                os.unlink(path)
        os._exit(1)

    def _exit(self, code: int) -> None:
        if not self._exit_code.done():
            self._exit_code.set_result(code)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _mapped(descriptors: Sequence[int]) -> CounterPages:
    """The workers' pages; the descriptors are closed."""
    pages = CounterPages(descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return pages


def _log_lines(error: Exception) -> None:
    for line in error.problems if isinstance(error, RuleError) else (error,):
        _log.error("%s", line)


def _log_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an unhandled exception; asyncio's own logger has no handler here."""
    _log.error("%s: %r", context.get("message"), context.get("exception"))
