"""The rules inside a native core, and what their host names are.

Owns how a change goes from the rules' plan to the core, all or nothing. Knows neither life cycle
nor threads: whoever shares it locks.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple, Self

from .._native import RelayCore, interfaces
from ..errors import McrError
from ..rules import Rule
from ..rules.hostnames import HostName, HostResolver, ResolvedHosts, uses
from ..rules.ruleset import RulePlan, RuleSet
from ..rules.spec import rule_specs
from ..stats import Stats
from ..stats.report import ActiveRule, stats_from_report
from .candidate_rules import CandidateRules
from .settings import RelaySettings

_MOST_WARNINGS = 1000  # name servers and interfaces can give cause for any number
_KERNEL_VERIFIES = (
    "on the ingress 'udp' the kernel itself drops datagrams with a wrong checksum; to relay them"
    " use 'packet'"
)


class _Change(NamedTuple):
    """A change with all that is to be noted of it, made before the core is told."""

    plan: RulePlan
    coming: Mapping[str, ActiveRule]
    """By id, in their order."""
    names: HostResolver
    order: Sequence[str] | None
    """The ids of all rules after it; None leaves the added ones behind the others."""


class ActiveRules:
    """The rules that a core runs; none at first.

    In a program's first thread an exception of a signal handler, as of Ctrl-C, may come between
    any two steps. So the core makes a change and takes the note of it in one step, and what is
    known here is brought up to that note whenever it is used, as often as it takes.
    """

    def __init__(self, core: RelayCore) -> None:
        """Take a core without rules."""
        self.core = core
        self._answers: ResolvedHosts = {}
        self._set = RuleSet(core.ingress)
        self._by_id: dict[str, ActiveRule] = {}
        self._unfinished: dict[str, None] = {}
        self._warnings: tuple[str, ...] = ()
        self._noted: _Change | None = None

    @classmethod
    def open(
        cls,
        settings: RelaySettings,
        candidate: CandidateRules,
        names: HostResolver,
        *,
        has_spares: bool,
    ) -> Self:
        """Run candidates in a core of their own, which ends if they cannot run.

        Args:
            settings: how the core shall run.
            candidate: the rules, and which of them take nothing.
            names: their host names.
            has_spares: whether the core opens spare sockets, for when the rights have ended.

        Raises:
            RuleError, InterfaceError, RightsError: nothing is open.
        """
        core = RelayCore(
            settings.ingress,
            settings.workers,
            settings.buffer_bytes,
            settings.cpus,
            settings.verify_checksums,
        )
        running = cls(core)
        try:
            # First, so that they count where descriptors are few.
            if has_spares:
                core.open_spares()
            running.change(add=candidate.rules, names=names, disabled=candidate.disabled)
        except BaseException:
            core.stop()
            raise
        if core.ingress == "udp" and not settings.verify_checksums:
            running.warn([_KERNEL_VERIFIES])
        return running

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, oldest first."""
        self._catch_up()
        return self._set.rules

    @property
    def answers(self) -> ResolvedHosts:
        """The addresses of the host names in use."""
        self._catch_up()
        return self._answers

    def __len__(self) -> int:
        """How many rules run, without waiting for a change."""
        return len(self._set)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of the rules, and what the core says of their sockets."""
        self._catch_up()
        return self._warnings + tuple(self.core.warnings())

    def warn(self, warnings: Iterable[str]) -> None:
        """Keep warnings; the same is said once, and no more when there are very many."""
        kept = dict.fromkeys((*self._warnings, *warnings))
        self._warnings = tuple(islice(kept, _MOST_WARNINGS))

    def find(self, rule: Rule | str) -> str | None:
        """The id of a rule, given as a value, or by its id or its name."""
        self._catch_up()
        return self._set.find(rule)

    def stats(self) -> Stats:
        """Return one consistent reading of all counters."""
        self._catch_up()
        return stats_from_report(self.core.stats(), self._by_id.values(), self._set.before)

    def change(
        self,
        *,
        remove: Iterable[str] = (),
        add: Iterable[Rule],
        names: HostResolver,
        disabled: Container[str] = (),
        order: Sequence[str] | None = None,
    ) -> None:
        """Remove and add rules; those that go and come back the same stay untouched in the core.

        Those that go and come back stay as they were, disabled or not; of the others those with
        the ids `disabled` take nothing.

        Raises:
            RuleError, InterfaceError, RightsError: nothing has changed.
        """
        self._catch_up()
        plan = self._set.plan(interfaces(), remove=remove, add=add, names=names)
        now_disabled = set(self.core.disabled()) if plan.removed else set()
        coming = {}
        for rule, resolved in zip(plan.added, plan.resolved, strict=True):
            is_disabled = rule.id in (now_disabled if rule.id in self._by_id else disabled)
            coming[rule.id] = ActiveRule(rule, replace(resolved, enabled=not is_disabled))
        gone = [rule_id for rule_id in plan.removed if rule_id not in coming]
        put = rule_specs(each.resolved for each in coming.values())
        self.core.apply(gone, put, False, _Change(plan, coming, names, order))
        self._catch_up()

    def set_enabled(self, rule_id: str, enabled: bool) -> None:
        """Let a rule take datagrams or not; its sockets and counters stay.

        Raises:
            EngineError: the engine has ended.
        """
        self._catch_up()
        self.core.set_enabled(rule_id, enabled)

    def follow(self, changed: Container[HostName], names: HostResolver) -> None:
        """Send what goes to host names that have changed to their addresses in `names`.

        Raises:
            RuleError, InterfaceError, RightsError: nothing has changed.
        """
        rules = self.rules
        order = [rule.id for rule in rules]
        followers = [rule for rule in rules if uses(rule, changed)]
        ids = [rule.id for rule in followers]
        self.change(remove=ids, add=followers, names=names, order=order)

    @property
    def unfinished(self) -> tuple[Rule, ...]:
        """The rules that wait for what the core does not see.

        That is a host name, or of what kind an input's address is that this host does not have.
        """
        self._catch_up()
        return tuple(self._by_id[rule_id].rule for rule_id in self._unfinished)

    def finish(self, names: HostResolver) -> None:
        """Resolve anew what is unfinished, as far as it can be now; the rest waits on."""
        waiting = self.unfinished
        order = [rule.id for rule in self.rules]
        host = interfaces()
        for rule in waiting:
            try:
                plan = self._set.plan(host, remove=[rule.id], add=[rule], names=names)
                (now,), before = plan.resolved, self._by_id[rule.id].resolved
                if now != before or now.is_final:
                    self.change(remove=[rule.id], add=[rule], names=names, order=order)
            except McrError as error:
                self.warn([f"rule {rule.name or rule.id} still waits: {error}"])

    def _catch_up(self) -> None:
        """Note the newest change of the core; every step may be done twice."""
        change = self.core.changed
        if not isinstance(change, _Change) or change is self._noted:
            return
        self._set.commit(change.plan)
        for rule_id in (*change.plan.removed, *change.coming):
            self._by_id.pop(rule_id, None)
            self._unfinished.pop(rule_id, None)
        self._by_id |= change.coming
        coming = change.coming.items()
        late = (rule_id for rule_id, active in coming if not active.resolved.is_final)
        self._unfinished |= dict.fromkeys(late)
        if change.order is not None:
            self._set.arrange(change.order)
            self._by_id = {rule_id: self._by_id[rule_id] for rule_id in change.order}
        # Another thread may have resolved names while these were resolved.
        before = HostResolver(known=self._answers)
        self._answers = {**before.known(self._set), **change.names.known(self._set)}
        self.warn(change.plan.warnings)
        self._noted = change
