"""Changes of the rules, one after the other: judged, made in all workers, kept, told.

Owns the order of these steps, and that nothing has changed unless all went well. How a change
reaches the workers is the business of `pool`, what it makes of the rules that of `rulebook`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from ....choices import Hosts
from ....errors import McrError
from ....protocol.constants import ErrorCode
from ....rules import Rule
from ....rules.hostnames import (
    HostChange,
    HostName,
    HostResolver,
    ResolvedHosts,
    resolve_again,
)
from ....rules.model import counted
from .. import limits
from ..api.errors import RpcError
from ..events import EventBus
from ..log import ControlLog
from ..supervisor_channel import SupervisorChannel
from ..workers.messages import prepare_body
from ..workers.pool import WorkerPool
from ..workers.status import RuleStatusTracker
from . import snapshot
from .config_file import read_config
from .draft import Change, Draft, RuleRecord, RuleSetAside
from .entries import EnabledRule, EntryReader
from .rulebook import Rulebook

_SEQUENCE_AHEAD = 1000
"""Events before the snapshot must be kept anew, so that no number is ever used twice, not even
by the daemon that reads the state file of one that was killed."""
_EVENTS_AT_ONCE = 100
_TRIED_AT_ONCE = 500  # rules that did not fit this host
_ROOM_BYTES = 1 << 20  # for what stands around the rules, in a message or a snapshot
_SPEC_BYTES = 64  # of a rule's id and what stands around it, in a message
T = TypeVar("T")

_log = logging.getLogger("mcr.rules")


class Transactions:
    """The one way in which rules change."""

    def __init__(  # noqa: PLR0917 -- each of another type
        self,
        book: Rulebook,
        pool: WorkerPool,
        bus: EventBus,
        status: RuleStatusTracker,
        log: ControlLog,
        supervisor: SupervisorChannel,
        *,
        judge: Executor,
        lookups: Executor,
        hosts: Hosts,
    ) -> None:
        """Take all that a change concerns.

        Args:
            book: the rules.
            pool: who relays by them.
            bus: where changes are told.
            status: what is known of the rules' troubles.
            log: whose levels are kept with the rules.
            supervisor: keeps the rules.
            judge: one thread, in which rules are read and judged.
            lookups: a few threads, in which host names are looked up.
            hosts: which addresses of a host name count.
        """
        self._book, self._pool, self._events, self._status = book, pool, bus, status
        self._log, self._supervisor = log, supervisor
        self._judge, self._lookups, self._hosts = judge, lookups, hosts
        self._reserved = 0
        self._tried: str | None = None
        self._keeping: asyncio.Task[None] | None = None
        self.is_draining = False
        """Whether the daemon ends: rules change no more."""

    async def read(self, values: Sequence[object], *, enabled: bool) -> list[EnabledRule]:
        """Rules as a client brings them.

        Raises:
            RuleError: with everything that is wrong with them.
        """
        reading = EntryReader(values, enabled=enabled)
        while await self._in(self._judge, reading.read_on):
            pass
        return reading.entries()

    async def add(
        self, entries: Sequence[EnabledRule], expected: int | None = None, *, dry_run: bool = False
    ) -> Draft:
        """Add rules; their host names are looked up before anybody else has to wait."""
        names = await self._names_for(entry.rule for entry in entries)
        return await self._change(partial(self._book.add, entries, names), expected, dry_run)

    async def replace(
        self, entries: Sequence[EnabledRule], expected: int | None = None, *, dry_run: bool = False
    ) -> Draft:
        """Let these be all rules."""
        names = await self._names_for(entry.rule for entry in entries)
        return await self._change(partial(self._book.replace, entries, names), expected, dry_run)

    async def remove(
        self, refs: Iterable[str], expected: int | None = None, *, dry_run: bool = False
    ) -> Draft:
        """Remove rules."""
        return await self._change(partial(self._book.remove, refs), expected, dry_run)

    async def enable(
        self,
        refs: Iterable[str],
        expected: int | None = None,
        *,
        enabled: bool,
        dry_run: bool = False,
    ) -> Draft:
        """Let rules relay, or not."""
        change = partial(self._book.enable, refs, enabled=enabled)
        return await self._change(change, expected, dry_run)

    async def resolve_hosts(self) -> tuple[HostChange, ...]:
        """Look all host names up again, and follow what has changed."""
        known = self._book.answers
        answers, changes = await self._in(self._lookups, lambda: resolve_again(known, self._hosts))
        changed = {name for name, addresses in answers.items() if known[name] != addresses}
        if changed:
            await self._change(lambda: self._followed(changed, answers), None, dry_run=False)
        for each in changes:
            _log.log(logging.WARNING if each.error else logging.INFO, "%s", each)
        return changes

    async def load(self, whole: bytes) -> Draft:
        """Let the rules of a configuration file be all rules.

        Raises:
            McrError, RpcError: nothing has changed.
        """
        entries = await self._in(self._judge, lambda: read_config(whole))
        return await self.replace(entries)

    async def restore(self, whole: bytes, *, in_use: bool) -> snapshot.RuleSnapshot:
        """Take over what an earlier process had; workers are not told here.

        Args:
            whole: the snapshot.
            in_use: whether workers run by it. Then the rules that fitted this host stay as they
                were resolved, so that nothing changes in the workers, whatever the host is now.

        Raises:
            McrError: it cannot be read, or not all of it; nothing has changed.
        """
        found = await self._in(self._judge, lambda: snapshot.read(whole, in_use=in_use))
        async with self._pool.lock:
            await self._in(self._judge, lambda: self._restore(found))
        for rule_id, aside in self._book.aside.items():
            _log.warning("rule %s waits, and is tried again: %s", rule_id, aside.why)
        self._events.resume_after(found.sequence)
        self._log.set_levels(found.log_levels)
        self._pool.log_level = self._log.level_of("workers", "interfaces")
        return found

    def _restore(self, found: snapshot.RuleSnapshot) -> None:
        self._book.commit(self._book.restore(found.revision, found.entries, found.answers))
        fitting = self._book.retry(self._book.order, HostResolver(known=found.answers))
        self._book.commit(replace(fitting, revision=found.revision))

    def begin(self) -> None:
        """From now on what there is may replace what was kept before."""
        self._events.on_published = self._number_ahead

    async def end(self) -> list[str]:
        """Keep the exact number of the last event; no other follows. What went wrong is returned.

        Nothing is kept where `begin` was never called.
        """
        has_begun, self._events.on_published = self._events.on_published is not None, None
        return await self.keep(ahead=0) if has_begun else []

    async def take_up(self) -> None:
        """Try again the rules that wait for what this host has not, without a word.

        Those that did not fit are tried some at a time, so that all have their turn.
        """
        unfinished = self._book.unfinished
        if unfinished:
            names = await self._names_for(each.rule for each in unfinished)
            with suppress(McrError, RpcError):
                await self._change(partial(self._book.finish, names), None, dry_run=False)
        ids = [each for each in self._book.order if each in self._book.aside]
        at = next((at for at, each in enumerate(ids) if each == self._tried), -1) + 1
        turn = (ids[at:] + ids[:at])[:_TRIED_AT_ONCE]
        if turn and not await self._retry(turn):
            for each in turn:  # a worker refuses one of them
                await self._retry([each])
        self._tried = turn[-1] if turn else None

    async def _retry(self, rule_ids: Sequence[str]) -> bool:
        """Take up those that fit; whether no worker refused them."""
        aside = self._book.aside
        waiting = [aside[each] for each in rule_ids if each in aside]
        names = await self._names_for(each.rule for each in waiting)
        try:
            await self._change(partial(self._book.retry, rule_ids, names), None, dry_run=False)
        except (McrError, RpcError):
            return False
        return True

    async def keep(self, ahead: int = _SEQUENCE_AHEAD) -> list[str]:
        """Have the supervisor keep the rules as they are; what went wrong is returned.

        Args:
            ahead: how many numbers of events are reserved.
        """
        self._reserved = self._events.sequence + ahead
        reserved, levels, book = self._reserved, self._log.levels, self._book
        try:
            memory = await self._in(
                self._judge,
                lambda: snapshot.write(book.revision, reserved, levels, book.answers, book.lines),
            )
        except McrError as error:
            return [f"the rules are not kept: {error}"]
        saved = await self._supervisor.keep(memory)
        if saved:
            return []
        what = "has not said that it keeps them" if saved is None else "cannot write the state file"
        return [f"the rules are in use, but the supervisor {what}"]

    def _number_ahead(self) -> None:
        """Before event numbers run out that no later process will use again, reserve more."""
        idle = self._keeping is None or self._keeping.done()
        if self._events.sequence + _SEQUENCE_AHEAD // 2 > self._reserved and idle:
            self._keeping = asyncio.get_running_loop().create_task(self._keep_alone())

    async def _keep_alone(self) -> None:
        async with self._pool.lock:
            for warning in await self.keep():
                _log.warning("%s", warning)

    async def _change(self, change: Change, expected: int | None, dry_run: bool) -> Draft:
        async with self._pool.lock:
            if self.is_draining:
                raise RpcError(ErrorCode.SHUTTING_DOWN, "the daemon ends; nothing has changed")
            self._book.check(expected)
            draft = await self._in(self._judge, change)
            if dry_run:
                return draft
            if not draft.moves:  # though it may know more of the host
                await self._in(self._judge, lambda: self._book.commit(draft))
                return draft
            _check_size(draft)
            body = await self._in(self._judge, lambda: _told(draft))
            with self._status.deferred(lambda: self._book.rules):
                await self._make(draft, body)
            warnings = await self.keep()
            for warning in warnings:
                _log.warning("%s", warning)
            return replace(draft, warnings=(*draft.warnings, *warnings))

    async def _make(self, draft: Draft, body: bytes) -> None:
        """Have the workers change, then the book, and tell it."""
        await self._pool.change(body, (*draft.removed, *draft.sent))
        before: dict[str, RuleRecord | RuleSetAside] = {**self._book.rules, **self._book.aside}
        await self._in(self._judge, lambda: self._book.commit(draft))
        self._status.forget_rules(draft.removed)
        gone = {each: before[each].rule for each in (*draft.removed, *draft.dropped)}
        await self._tell(draft, before, gone)

    async def _tell(
        self,
        draft: Draft,
        before: Mapping[str, RuleRecord | RuleSetAside],
        gone: Mapping[str, Rule],
    ) -> None:
        after: dict[str, RuleRecord | RuleSetAside] = {**draft.rules, **draft.aside}
        turns = [(each, rule, "removed") for each, rule in gone.items()]
        turns += [(each, after[each].rule, turn) for each, turn in draft.changed.items()]
        turns += [
            (each, after[each].rule, "resumed" if each in before else "added")
            for each in draft.added
        ]
        for at, (rule_id, rule, turn) in enumerate(turns):
            if at % _EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)
            text = f"rule {rule.name or rule_id} {'has' if turn == 'resumed' else 'was'} {turn}"
            self._events.publish("rule", turn, text, id=rule_id, name=rule.name)
        counts = {"added": draft.added, "removed": gone, "changed": draft.changed}
        happened = [f"{counted(len(ids))} {verb}" for verb, ids in counts.items() if ids]
        _log.info("revision %d: %s", draft.revision, ", ".join(happened) or "another order")

    async def _names_for(self, given: Iterable[Rule]) -> HostResolver:
        names, rules = HostResolver(self._hosts, self._book.answers), list(given)
        unknown = any(isinstance(each.address, str) for rule in rules for each in rule.outputs)
        if unknown:
            await self._in(self._lookups, lambda: names.look_up(rules))
        return names

    def _followed(self, changed: set[HostName], answers: ResolvedHosts) -> Draft:
        known = {**self._book.answers, **answers}
        return self._book.follow(changed, HostResolver(self._hosts, known))

    async def _in(self, executor: Executor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, work)


def _told(draft: Draft) -> bytes:
    """What workers are told of a change."""
    records = ((rule_id, draft.rules[rule_id]) for rule_id in draft.sent)
    specs = ((rule_id, record.enabled, record.members) for rule_id, record in records)
    return prepare_body(draft.revision, whole=False, remove=draft.removed, add=specs)


def _check_size(draft: Draft) -> None:
    """Refuse rules that could be neither kept nor given to a worker that comes back."""
    kept_bytes = sum(len(held.line) for held in draft.rules.values())
    told_bytes = sum(len(held.members) + _SPEC_BYTES for held in draft.rules.values())
    for size, limit in ((kept_bytes, limits.KEPT_BYTES), (told_bytes, limits.FRAME_BYTES)):
        if size > limit - _ROOM_BYTES:
            message = f"all rules together need {size} bytes, and {limit - _ROOM_BYTES} is the most"
            raise RpcError(ErrorCode.LIMIT, message)
