"""Changes of the rules, one at a time: checked, made in all workers, kept and reported.

Owns the order of these steps; if one of them fails, nothing has changed. `pool` changes the
workers, and `rulebook` decides what a change makes of the rules.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from ....alarms.notice import rule_fields
from ....choices import Hosts
from ....config.document import FileContent
from ....config.reader import Configuration, read_files
from ....errors import McrError
from ....log_levels import logger_of
from ....protocol.constants import ErrorCode
from ....protocol.results import ConfigurationResult
from ....rules import Rule
from ....rules.active_rule import RuleStep
from ....rules.edit import RuleEdit
from ....rules.host_change import HostChange
from ....rules.hostnames import HostName, HostResolver, ResolvedHosts, resolve_again
from ....rules.model import counted
from ....rules.shaping import Shaping
from ...file_pack import unpack
from ..api.errors import RpcError
from ..events import EventBus
from ..log import ControlLog
from ..supervisor_channel import SupervisorChannel
from ..workers.messages import WORKER_FACILITIES, prepare_body
from ..workers.pool import WorkerPool
from ..workers.status import RuleStatusTracker
from . import snapshot
from .change_report import check_size, report_change
from .draft import Change, Draft, RuleRecord, RuleSetAside
from .entries import EnabledRule, EntryReader
from .merge import Merge
from .rulebook import Rulebook

_SEQUENCE_AHEAD = 1000
"""A snapshot reserves numbers for so many events, so that none is used twice, even by the daemon
that reads the state file of one that was killed."""
_RETRIES_PER_TURN = 500  # rules set aside
T = TypeVar("T")

_log = logger_of("rules")


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
        checks: Executor,
        lookups: Executor,
        hosts: Hosts,
    ) -> None:
        """Use the parts that a change concerns.

        Args:
            book: the rules.
            pool: the workers.
            bus: publishes the changes.
            status: the troubles of the rules.
            log: its levels are kept with the rules.
            supervisor: keeps the snapshots.
            checks: one thread, which reads and checks rules.
            lookups: a few threads, which resolve host names.
            hosts: which addresses of a host name are used.
        """
        self._book, self._pool, self._events, self._status = book, pool, bus, status
        self._log, self._supervisor = log, supervisor
        self._checks, self._lookups, self._hosts = checks, lookups, hosts
        self._reserved = 0
        self._tried: str | None = None
        self._keeping: asyncio.Task[None] | None = None
        self.is_draining = False
        """Whether the daemon is shutting down, so that rules no longer change."""

    async def read(self, values: Sequence[object], *, enabled: bool) -> list[EnabledRule]:
        """Convert the rules of a request.

        Raises:
            RuleError: with all problems.
        """
        known = self._book.outputs_by_text
        return await self._read(EntryReader(values, enabled=enabled, known=known))

    async def read_known(self, values: Sequence[object]) -> list[EnabledRule]:
        """Convert the rules of a configuration, most of which there are already.

        Raises:
            RuleError: with all problems.
        """
        known, rules = self._book.outputs_by_text, await self._in(self._checks, self._texts)
        return await self._read(EntryReader(values, known=known, rules=rules))

    def _texts(self) -> dict[str, Rule]:
        return self._book.by_text

    async def _read(self, reader: EntryReader) -> list[EnabledRule]:
        while await self._in(self._checks, reader.read_slice):
            pass
        return reader.entries()

    async def add(
        self, entries: Sequence[EnabledRule], expected: int | None = None, *, dry_run: bool = False
    ) -> Draft:
        """Add rules; their host names are resolved first, while other changes continue."""
        names = await self._names_for(entry.rule for entry in entries)
        return await self._change(partial(self._book.add, entries, names), expected, dry_run)

    async def replace(
        self, entries: Sequence[EnabledRule], expected: int | None = None, *, dry_run: bool = False
    ) -> Draft:
        """Make these all rules."""
        names = await self._names_for(entry.rule for entry in entries)
        return await self._change(partial(self._book.replace, entries, names), expected, dry_run)

    async def edit(
        self, ref: str, edit: RuleEdit, expected: int | None = None, *, dry_run: bool = False
    ) -> Draft:
        """Edit a rule; the host names that it gets are resolved first."""
        rules = [edit.apply(self._book.rule(ref)).rule] if edit.needs_names else []
        names = await self._names_for(rules)
        return await self._change(partial(self._book.edit, ref, edit, names), expected, dry_run)

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
        """Enable or disable rules."""
        change = partial(self._book.enable, refs, enabled=enabled)
        return await self._change(change, expected, dry_run)

    async def reshape(
        self,
        change: Callable[[Shaping], Shaping],
        expected: int | None = None,
        *,
        dry_run: bool = False,
    ) -> Draft:
        """Use other classes and rates of interfaces."""
        return await self._change(partial(self._book.reshape, change), expected, dry_run)

    async def resolve_hosts(self) -> tuple[HostChange, ...]:
        """Resolve all host names again, and send to the changed addresses."""
        known = self._book.answers
        answers, changes = await self._in(self._lookups, lambda: resolve_again(known, self._hosts))
        changed = {name for name, addresses in answers.items() if known[name] != addresses}
        if changed:
            await self._change(lambda: self._follow(changed, answers), None, dry_run=False)
        for each in changes:
            _log.log(logging.WARNING if each.error else logging.INFO, "%s", each)
        return changes

    async def read_files(self, pack: bytes) -> Configuration:
        """Parse the files of the configuration.

        Raises:
            ConfigError: with all problems of the files themselves.
        """
        files = [FileContent(*each) for each in unpack(pack)]
        return await self._in(self._checks, lambda: read_files(files))

    async def configure(
        self, configuration: Configuration, *, prune: bool = False
    ) -> ConfigurationResult:
        """Make the rules those of the configuration, as `merge` decides.

        Raises:
            McrError, RpcError: nothing has changed.
        """
        with configuration.placed():
            entries = await self.read_known(configuration.rules)
            return await self.apply(entries, prune=prune, shaping=configuration.shaping)

    async def apply(
        self,
        wanted: Sequence[EnabledRule],
        expected: int | None = None,
        *,
        prune: bool = False,
        dry_run: bool = False,
        shaping: Shaping | None = None,
    ) -> ConfigurationResult:
        """The same with rules that a client has read from a configuration."""
        known = self._book.rules
        names = await self._names_for(each.rule for each in wanted if each.rule.id not in known)
        found: list[Merge] = []

        def change() -> Draft:
            draft, merge = self._book.apply(wanted, names, prune=prune, shaping=shaping)
            found[:] = [merge]
            return draft

        draft = await self._change(change, expected, dry_run)
        revision = self._book.revision if dry_run else draft.revision
        return await self._in(
            self._checks, lambda: found[0].result(draft, revision, dry_run=dry_run)
        )

    async def restore(
        self, whole: bytes, *, in_use: bool, configuration: Configuration | None = None
    ) -> snapshot.RuleSnapshot:
        """Use the rules of an earlier process, without a change in the workers.

        Args:
            whole: the snapshot.
            in_use: whether workers have its rules. In that case they stay as they were resolved,
                even if the host has changed.
            configuration: what the files want; rules of the snapshot that came from files, and
                that these have no more, are left out.

        Raises:
            McrError: it cannot be read as a whole; nothing has changed.
        """
        found = await self._in(self._checks, lambda: snapshot.read(whole, in_use=in_use))
        if configuration is not None:
            found = await self._without_unwanted(found, configuration)
        async with self._pool.lock:
            await self._in(self._checks, lambda: self._restore(found))
        for rule_id, aside in self._book.aside.items():
            text = "rule %s does not fit this host and is retried: %s"
            _log.warning(text, rule_id, aside.why, extra=rule_fields(aside.rule))
        self._events.resume_after(found.sequence)
        self._log.set_levels(found.log_levels)
        self._pool.log_levels = self._log.levels_of(*WORKER_FACILITIES)
        return found

    async def _without_unwanted(
        self, found: snapshot.RuleSnapshot, configuration: Configuration
    ) -> snapshot.RuleSnapshot:
        rules = {str(entry.rule): entry.rule for entry in found.entries}
        with configuration.placed():
            wanted = await self._read(EntryReader(configuration.rules, rules=rules))
        ids = {entry.rule.id for entry in wanted}
        entries = tuple(
            entry for entry in found.entries if entry.origin == "client" or entry.rule.id in ids
        )
        gone = len(found.entries) - len(entries)
        if gone:
            _log.info("%s that the configuration no longer has: removed", counted(gone))
        return replace(found, entries=entries, revision=found.revision + bool(gone))

    def _restore(self, found: snapshot.RuleSnapshot) -> None:
        book, shaping = self._book, found.shaping
        book.commit(book.restore(found.revision, found.entries, found.answers, shaping))
        book.file_shaping = found.file_shaping
        draft = self._book.retry(self._book.order, HostResolver(known=found.answers))
        self._book.commit(replace(draft, revision=found.revision))

    def begin(self) -> None:
        """Allow snapshots from now on; they replace that of the process before."""
        self._events.on_published = self._reserve_numbers

    async def end(self) -> list[str]:
        """Keep a last snapshot, with the number of the last event.

        Returns:
            Warnings. Without a call of `begin` nothing is kept.
        """
        has_begun, self._events.on_published = self._events.on_published is not None, None
        return await self.keep(ahead=0) if has_begun else []

    async def retry(self) -> None:
        """Resolve unfinished rules and retry the rules set aside; a failure is not reported.

        Those set aside are retried some at a time, in turn.
        """
        unfinished = self._book.unfinished
        if unfinished:
            names = await self._names_for(each.rule for each in unfinished)
            with suppress(McrError, RpcError):
                await self._change(partial(self._book.finish, names), None, dry_run=False)
        ids = [each for each in self._book.order if each in self._book.aside]
        at = next((at for at, each in enumerate(ids) if each == self._tried), -1) + 1
        turn = (ids[at:] + ids[:at])[:_RETRIES_PER_TURN]
        if turn and not await self._retry_aside(turn):
            for each in turn:  # a worker refuses one of them
                await self._retry_aside([each])
        self._tried = turn[-1] if turn else None

    async def _retry_aside(self, rule_ids: Sequence[str]) -> bool:
        """Add those of the rules set aside that fit; return whether no worker refused them."""
        aside = self._book.aside
        waiting = [aside[each] for each in rule_ids if each in aside]
        names = await self._names_for(each.rule for each in waiting)
        try:
            await self._change(partial(self._book.retry, rule_ids, names), None, dry_run=False)
        except (McrError, RpcError):
            return False
        return True

    async def keep(self, ahead: int = _SEQUENCE_AHEAD) -> list[str]:
        """Have the supervisor keep a snapshot of the rules.

        Args:
            ahead: the number of events to reserve numbers for.

        Returns:
            Warnings.
        """
        self._reserved = self._events.sequence + ahead
        reserved, levels, book = self._reserved, self._log.levels, self._book
        try:
            memory = await self._in(
                self._checks,
                lambda: snapshot.write(
                    book.revision,
                    reserved,
                    levels,
                    book.answers,
                    book.lines,
                    shaping=book.shaping,
                    file_shaping=book.file_shaping,
                ),
            )
        except McrError as error:
            return [f"the rules are not kept: {error}"]
        saved = await self._supervisor.keep(memory)
        if saved:
            return []
        what = "has not said that it keeps them" if saved is None else "cannot write the state file"
        return [f"the rules are in use, but the supervisor {what}"]

    def _reserve_numbers(self) -> None:
        """Reserve more event numbers before the reserved ones are used up."""
        idle = self._keeping is None or self._keeping.done()
        if self._events.sequence + _SEQUENCE_AHEAD // 2 > self._reserved and idle:
            self._keeping = asyncio.get_running_loop().create_task(self._keep_now())

    async def _keep_now(self) -> None:
        async with self._pool.lock:
            for warning in await self.keep():
                _log.warning("%s", warning)

    async def _change(self, change: Change, expected: int | None, dry_run: bool) -> Draft:
        async with self._pool.lock:
            if self.is_draining:
                raise RpcError(
                    ErrorCode.SHUTTING_DOWN, "the daemon is shutting down; nothing has changed"
                )
            self._book.check(expected)
            draft, body = await self._in(self._checks, lambda: self._prepare(change))
            if dry_run:
                return draft
            if not draft.moves:  # it may still know more of the host
                await self._in(self._checks, lambda: self._book.commit(draft))
                return draft
            check_size(draft)
            with self._status.deferred(lambda: self._book.rules):
                await self._make(draft, body)
            warnings = await self.keep()
            for warning in warnings:
                _log.warning("%s", warning)
            return replace(draft, warnings=(*draft.warnings, *warnings))

    def _prepare(self, change: Change) -> tuple[Draft, bytes]:
        """Check a change; return it, and the request by which workers prepare it."""
        draft = change()

        def is_edit(step: RuleStep) -> bool:
            # A worker that has refused a rule needs all of it.
            return step.layout is not None and self._pool.refusal_of(step.after.id) is None

        sent = draft.plan.sent
        records = [
            (each.after.id, draft.rules[each.after.id]) for each in sent if not is_edit(each)
        ]
        specs = ((rule_id, record.enabled, record.members) for rule_id, record in records)
        edits = [step.edit for step in sent if is_edit(step)]
        body = prepare_body(
            draft.revision,
            whole=False,
            remove=draft.removed,
            add=specs,
            edit=edits,
            shaping=draft.plan.shaping,
        )
        return draft, body

    async def _make(self, draft: Draft, body: bytes) -> None:
        """Make a change in the workers, then in the book, and report it."""
        await self._pool.change(body, (*draft.removed, *draft.sent), draft.title_of)
        before: dict[str, RuleRecord | RuleSetAside] = {**self._book.rules, **self._book.aside}
        await self._in(self._checks, lambda: self._book.commit(draft))
        self._status.forget_rules(draft.removed)
        removed = {each: before[each].rule for each in (*draft.removed, *draft.dropped)}
        await report_change(self._events, draft, before, removed)

    async def _names_for(self, given: Iterable[Rule]) -> HostResolver:
        names, rules = HostResolver(self._hosts, self._book.answers), list(given)
        unknown = any(isinstance(each.address, str) for rule in rules for each in rule.outputs)
        if unknown:
            await self._in(self._lookups, lambda: names.look_up(rules))
        return names

    def _follow(self, changed: set[HostName], answers: ResolvedHosts) -> Draft:
        known = {**self._book.answers, **answers}
        return self._book.follow(changed, HostResolver(self._hosts, known))

    async def _in(self, executor: Executor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, work)
