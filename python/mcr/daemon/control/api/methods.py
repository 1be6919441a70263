"""The methods of the protocol.

Owns their implementations, and the conversion of control's records to the protocol's results.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from importlib.metadata import version
from typing import Any, NamedTuple, TypeVar

from .... import _native
from ....choices import Ingress
from ....errors import McrError
from ....json_codec import encode_in_pieces
from ....protocol.constants import PROTOCOL, ErrorCode
from ....protocol.results import (
    ChangeResult,
    ConfigurationResult,
    DaemonConfiguration,
    EventPosition,
    ExplanationList,
    FlowList,
    Hello,
    HostChanges,
    InterfaceInfo,
    InterfaceList,
    LogLevels,
    Nothing,
    Pong,
    RuleInfo,
    RuleList,
    RuleResult,
    ShapingInfo,
    TapStarted,
    WorkerCount,
    WorkerList,
)
from ....rules.shaping import NO_SHAPING
from ....taps.filter import TapFilter, check_reason
from ....taps.names import NamedInterface
from ....taps.rules import check_output, named_rule
from ..events import EventBus
from ..log import ControlLog
from ..rules.configurator import Configurator
from ..rules.draft import Draft, RuleRecord, RuleSetAside
from ..rules.entries import read_edit
from ..rules.rulebook import Rulebook
from ..rules.shaping_change import shaping_from, shaping_info
from ..rules.transactions import Transactions
from ..taps import ClientTaps
from ..workers.counter_reader import CounterReader
from ..workers.pool import WorkerPool
from ..workers.status import RuleStatusTracker
from . import params
from .errors import RpcError
from .explain import explanations
from .jsonrpc import Encoded, Method, Result
from .method_types import METHOD_TYPES
from .rule_info import info_aside, info_of, new_info
from .server import Connection

T = TypeVar("T")
_SERVER = f"mcr {version('mcr-relay')}"  # read now: the sandbox may hide the file later
_STATE_AGE_S = 1.0
"""The largest age of the counters from which the state of a rule is derived, in seconds."""

_FEW = 16
"""As many rules or outputs take less time than another thread."""

_NOT_ADDED = "not added (dry run)"
"""The state of a rule in the result of a dry run."""


class Daemon(NamedTuple):
    """The parts that methods use."""

    ingress: Ingress
    book: Rulebook
    pool: WorkerPool
    changes: Transactions
    counters: CounterReader
    bus: EventBus
    status: RuleStatusTracker
    log: ControlLog
    taps: ClientTaps
    executor: Executor
    """Runs work that may take a while."""
    set_levels: Callable[[LogLevels], Awaitable[None]]
    shut_down: Callable[[], None]
    configurator: Configurator


class Methods:
    """The implementation of each method."""

    def __init__(self, daemon: Daemon) -> None:
        """Serve this daemon."""
        self._daemon = daemon

    def observer_table(self) -> dict[str, Method[Connection]]:
        """All methods by name, for clients that may only observe."""
        return {
            name: method
            if METHOD_TYPES[name].observes
            else replace(method, refusal=f"this socket only observes; {name} needs the daemon's")
            for name, method in self.table().items()
        }

    def table(self) -> dict[str, Method[Connection]]:
        """All methods by name."""
        serve: dict[str, Callable[[Connection, Any], Awaitable[Result]]] = {
            "hello": self._hello,
            "ping": self._ping,
            "rules.list": self._rules_list,
            "rules.get": self._rules_get,
            "rules.add": self._rules_add,
            "rules.remove": self._rules_remove,
            "rules.enable": self._rules_enable,
            "rules.disable": self._rules_disable,
            "rules.replace": self._rules_replace,
            "rules.apply": self._rules_apply,
            "config.get": self._config_get,
            "config.reload": self._config_reload,
            "rules.edit": self._rules_edit,
            "shaping.get": self._shaping_get,
            "shaping.change": self._shaping_change,
            "stats": self._stats,
            "flows": self._flows,
            "explain": self._explain,
            "taps.start": self._taps_start,
            "workers.list": self._workers_list,
            "interfaces.list": self._interfaces_list,
            "logs.get": self._logs_get,
            "logs.set": self._logs_set,
            "events.subscribe": self._events_subscribe,
            "events.unsubscribe": self._events_unsubscribe,
            "hosts.resolve": self._hosts_resolve,
            "shutdown": self._shutdown,
        }
        return {name: Method(types.params, serve[name]) for name, types in METHOD_TYPES.items()}

    async def _hello(self, client: Connection, given: params.HelloParams) -> Hello:
        if given.protocol != PROTOCOL:
            client.ends_after_answer = True
            message = f"this daemon speaks protocol {PROTOCOL}, not {given.protocol}"
            raise RpcError(ErrorCode.PROTOCOL_MISMATCH, message, {"supported": [PROTOCOL]})
        return Hello(
            protocol=PROTOCOL,
            server=_SERVER,
            pid=os.getpid(),
            revision=self._daemon.book.revision,
            ingress=self._daemon.ingress,
            workers=len(self._daemon.pool.workers),
            sequence=self._daemon.bus.sequence,
        )

    async def _ping(self, _client: Connection, _given: params.NoParams) -> Pong:
        pool = self._daemon.pool
        return Pong(
            revision=self._daemon.book.revision,
            workers=WorkerCount(running=len(pool.running), of=len(pool.workers)),
            uptime_s=self._daemon.counters.uptime_s,
        )

    async def _rules_list(self, _client: Connection, given: params.SelectionParams) -> Encoded:
        revision = self._daemon.book.revision
        book = self._daemon.book
        ids = book.order if given.rules is None else book.find(given.rules, patterns=True)
        rules, aside = self._split(None if given.rules is None else ids)
        reading = await self._daemon.counters.read(_STATE_AGE_S)
        stats = await self._daemon.counters.rule_stats(reading, rules)

        def infos() -> Encoded:
            stats_by_id = dict(zip(rules, stats, strict=True))
            found = (
                info_of(rules[rule_id], stats_by_id[rule_id])
                if rule_id in rules
                else info_aside(aside[rule_id])
                for rule_id in ids
            )
            return Encoded(
                encode_in_pieces(RuleList(revision, tuple(found), **self._moment()), "rules")
            )

        return await self._in_thread(infos)

    async def _rules_get(self, _client: Connection, given: params.RuleParams) -> RuleResult:
        revision = self._daemon.book.revision
        rules, aside = self._selected([given.rule], patterns=False)
        for rule in aside.values():
            return RuleResult(revision, info_aside(rule), **self._moment())
        reading = await self._daemon.counters.read(_STATE_AGE_S)
        (stats,) = await self._daemon.counters.rule_stats(reading, rules)
        (record,) = rules.values()
        return RuleResult(revision, info_of(record, stats), **self._moment())

    async def _rules_add(self, _client: Connection, given: params.AddParams) -> Encoded:
        changes = self._daemon.changes
        entries = await changes.read(given.rules, enabled=given.enabled)
        expected = given.expected_revision
        draft = await changes.add(entries, expected, dry_run=given.dry_run)
        return await self._change_result(draft, given.dry_run)

    async def _rules_replace(self, _client: Connection, given: params.ReplaceParams) -> Encoded:
        changes = self._daemon.changes
        entries = await changes.read(given.rules, enabled=True)
        expected = given.expected_revision
        draft = await changes.replace(entries, expected, dry_run=given.dry_run)
        return await self._change_result(draft, given.dry_run)

    async def _rules_apply(
        self, _client: Connection, given: params.ApplyParams
    ) -> ConfigurationResult:
        changes = self._daemon.changes
        entries = await changes.read_known(given.rules)
        shaping = None if given.shaping is None else shaping_from(given.shaping, NO_SHAPING)
        return await changes.apply(
            entries,
            given.expected_revision,
            prune=given.prune,
            dry_run=given.dry_run,
            shaping=shaping,
        )

    async def _config_get(
        self, _client: Connection, _given: params.NoParams
    ) -> DaemonConfiguration:
        own, revision = self._daemon.configurator, self._daemon.book.revision
        return DaemonConfiguration(own.path, own.options, revision)

    async def _config_reload(
        self, _client: Connection, given: params.ReloadParams
    ) -> ConfigurationResult:
        if self._daemon.configurator.path is None:
            message = "the daemon has no configuration file; start it with --config FILE"
            raise RpcError(ErrorCode.RULE_REFUSED, message)
        return await self._daemon.configurator.request(prune=given.prune)

    async def _rules_edit(self, _client: Connection, given: params.EditParams) -> Encoded:
        outputs = len(given.set_outputs) + len(given.add_outputs) + len(given.remove_outputs)
        is_short = outputs <= _FEW
        edit = read_edit(given) if is_short else await self._in_thread(lambda: read_edit(given))
        expected = given.expected_revision
        draft = await self._daemon.changes.edit(given.rule, edit, expected, dry_run=given.dry_run)
        return await self._change_result(draft, given.dry_run)

    async def _rules_remove(self, _client: Connection, given: params.RefsParams) -> Encoded:
        remove, expected = self._daemon.changes.remove, given.expected_revision
        draft = await remove(given.rules, expected, dry_run=given.dry_run)
        return await self._change_result(draft, given.dry_run)

    async def _rules_enable(self, _client: Connection, given: params.RefsParams) -> Encoded:
        return await self._set_enabled(given, enabled=True)

    async def _rules_disable(self, _client: Connection, given: params.RefsParams) -> Encoded:
        return await self._set_enabled(given, enabled=False)

    async def _shaping_get(self, _client: Connection, _given: params.NoParams) -> ShapingInfo:
        book = self._daemon.book
        rules = (each.rule for each in book.rules.values())
        return shaping_info(book.revision, book.shaping, rules)

    async def _shaping_change(
        self, _client: Connection, given: params.ShapingParams
    ) -> ShapingInfo:
        expected, book = given.expected_revision, self._daemon.book
        draft = await self._daemon.changes.reshape(
            lambda before: shaping_from(given, before), expected, dry_run=given.dry_run
        )
        revision = book.revision if given.dry_run else draft.revision
        rules = (each.rule for each in draft.rules.values())
        shaping = draft.plan.shaping or book.shaping
        return shaping_info(revision, shaping, rules, draft.warnings)

    async def _stats(self, _client: Connection, given: params.SelectionParams) -> Encoded:
        rules, _aside = self._selected(given.rules)
        revision = self._daemon.book.revision
        reading = await self._daemon.counters.read()
        return await self._daemon.counters.stats(reading, rules, revision)

    async def _flows(self, _client: Connection, given: params.FlowsParams) -> Encoded:
        rules, _aside = self._selected(given.rules)
        revision = self._daemon.book.revision
        found = await self._daemon.counters.flows(rules)

        def encode() -> Encoded:
            flows, is_counted = found or (), found is not None
            shown = tuple(flows[: given.limit])
            answer = FlowList(revision, is_counted, shown, len(flows), **self._moment())
            return Encoded(encode_in_pieces(answer, "flows"))

        return await self._in_thread(encode)

    async def _explain(self, _client: Connection, given: params.ExplainParams) -> ExplanationList:
        rules, revision = self._daemon.book.rules.values(), self._daemon.book.revision
        ingress, troubles = self._daemon.ingress, self._daemon.status.get
        shaping = self._daemon.book.shaping
        found = await self._in_thread(
            lambda: explanations(rules, ingress, troubles, shaping, given.datagrams)
        )
        return ExplanationList(revision, found, **self._moment())

    async def _taps_start(self, client: Connection, given: params.TapParams) -> TapStarted:
        try:
            wanted = TapFilter(**{**given.model_dump(), "take": given.take and tuple(given.take)})
        except McrError as error:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"taps.start: {error}") from None
        check_reason(wanted.reason)
        refs = None if given.rule is None else [given.rule]
        rules, _aside = self._selected(refs, patterns=False)
        taken = tuple(named_rule(each.rule) for each in rules.values())
        rule_id = None
        if given.rule is not None:
            (record,) = rules.values() or [None]
            if record is None:
                message = "the rule is set aside: no worker has it"
                raise RpcError(ErrorCode.RULE_REFUSED, message)
            check_output(wanted, record.rule)
            rule_id = record.rule.id
        found = await self._in_thread(_native.interfaces)
        interfaces = tuple(NamedInterface(each.index, each.name) for each in found)
        await self._daemon.taps.start(client, wanted, rule_id)
        return TapStarted(len(self._daemon.pool.workers), interfaces, taken)

    async def _workers_list(self, _client: Connection, _given: params.NoParams) -> WorkerList:
        workers = tuple(worker.info() for worker in self._daemon.pool.workers)
        return WorkerList(workers, **self._moment())

    async def _interfaces_list(self, _client: Connection, _given: params.NoParams) -> InterfaceList:
        found = await self._in_thread(_native.interfaces)
        return InterfaceList(tuple(map(_interface_info, found)))

    async def _logs_get(self, _client: Connection, _given: params.NoParams) -> LogLevels:
        return self._daemon.log.levels

    async def _logs_set(self, _client: Connection, given: params.LogsParams) -> LogLevels:
        if given.level is None and given.facility is None:
            reason = "must not be null without a facility"
            problem = {"field": "level", "message": reason}
            message = f"logs.set: level: {reason}"
            raise RpcError(ErrorCode.INVALID_PARAMS, message, {"problems": [problem]})
        await self._daemon.set_levels(self._daemon.log.with_level(given.level, given.facility))
        return self._daemon.log.levels

    async def _events_subscribe(
        self, client: Connection, given: params.SubscribeParams
    ) -> EventPosition:
        bus, lines = self._daemon.bus, client.lines
        subscription = bus.subscribe(
            given.kinds, given.after, lambda line: lines.send([line]), lambda: lines.unread_bytes
        )
        client.subscribe(subscription)
        return EventPosition(bus.sequence, bus.oldest, bus.missed(given.after, given.kinds))

    async def _events_unsubscribe(self, client: Connection, _given: params.NoParams) -> Nothing:
        client.subscribe(None)
        return Nothing()

    async def _hosts_resolve(self, _client: Connection, _given: params.NoParams) -> HostChanges:
        changes = await self._daemon.changes.resolve_hosts()
        return HostChanges(changes, self._daemon.book.revision)

    async def _shutdown(self, client: Connection, _given: params.NoParams) -> Nothing:
        client.ends_after_answer = True
        asyncio.get_running_loop().call_soon(self._daemon.shut_down)
        return Nothing()

    async def _set_enabled(self, given: params.RefsParams, *, enabled: bool) -> Encoded:
        enable, expected = self._daemon.changes.enable, given.expected_revision
        draft = await enable(given.rules, expected, enabled=enabled, dry_run=given.dry_run)
        return await self._change_result(draft, given.dry_run)

    def _selected(
        self, refs: Iterable[str] | None, *, patterns: bool = True
    ) -> tuple[Mapping[str, RuleRecord], Mapping[str, RuleSetAside]]:
        """The selected rules that workers have, and the selected ones that are set aside."""
        book = self._daemon.book
        return self._split(None if refs is None else book.find(refs, patterns=patterns))

    def _split(
        self, ids: Sequence[str] | None
    ) -> tuple[Mapping[str, RuleRecord], Mapping[str, RuleSetAside]]:
        """The rules with these ids, or all: those that workers have, and those set aside."""
        rules, aside = self._daemon.book.rules, self._daemon.book.aside
        if ids is None:
            return rules, aside
        selected = {rule_id: rules[rule_id] for rule_id in ids if rule_id in rules}
        return selected, {rule_id: aside[rule_id] for rule_id in ids if rule_id in aside}

    def _moment(self) -> dict[str, float]:
        """The members that every answer with counters has."""
        return {"time": round(time.time(), 3), "uptime_s": self._daemon.counters.uptime_s}

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._daemon.executor, work)

    async def _change_result(self, draft: Draft, dry_run: bool) -> Encoded:
        revision = self._daemon.book.revision if dry_run else draft.revision
        troubles = {rule_id: self._daemon.status.get(rule_id) for rule_id in draft.added}

        def infos() -> Iterator[RuleInfo]:
            for rule_id in draft.added:
                record = draft.rules[rule_id]
                info = new_info(record, troubles[rule_id])
                # Only a worker could tell the state that the rule would have.
                yield replace(info, state=_NOT_ADDED, state_code=None) if dry_run else info

        def encode() -> Encoded:
            result = ChangeResult(
                revision=revision,
                dry_run=dry_run,
                removed=(*draft.removed, *draft.dropped),
                kept=draft.kept,
                changed=tuple(draft.changed),
                warnings=draft.warnings,
                added=tuple(infos()),
            )
            return Encoded(encode_in_pieces(result, "added"))

        is_short = not draft.added and len(draft.removed) + len(draft.kept) <= _FEW
        return encode() if is_short else await self._in_thread(encode)


def _interface_info(found: _native.Interface) -> InterfaceInfo:
    return InterfaceInfo(
        name=found.name,
        altnames=tuple(found.altnames),
        index=found.index,
        up=found.up,
        carrier=found.carrier,
        multicast=found.multicast,
        loopback=found.loopback,
        mtu=found.mtu,
        gro=found.gro,
        addresses=tuple(found.addresses),
    )
