"""The rules that run in a native core of this process.

Owns the way of a change to the core, all or nothing, also if a signal handler interrupts it. What
a change makes of the rules is decided in `rules.ruleset`. Not thread-safe.
"""

from collections.abc import Container, Iterable
from dataclasses import replace
from itertools import islice
from operator import is_
from typing import NamedTuple, Self

from .._native import RelayCore, interfaces, output_keys
from ..alarms.monitor import CounterMonitor
from ..alarms.timing import Timing
from ..alarms.troubles import TroubleMonitor
from ..errors import McrError
from ..explain.explainer import RuleExplainer
from ..rules import Rule
from ..rules.active_rule import ActiveRule
from ..rules.edit import RuleEdit
from ..rules.expectation import EMPTY, Expectation
from ..rules.hostnames import HostName, HostResolver, ResolvedHosts
from ..rules.ruleset import RulePlan, RuleSet
from ..rules.shaping import Shaping, shaping_spec
from ..rules.spec import ResolvedRule
from ..stats import FlowStats, Stats
from ..stats.classes import class_stats
from ..stats.report import flow_stats, stats_from_report, with_latency
from .candidate_rules import CandidateRules
from .settings import RelaySettings

TIMING = Timing()
"""When alarms and losses become events."""
_WARNINGS_LIMIT = 1000  # name servers and interfaces can cause any number
_KERNEL_VERIFIES = (
    "on the ingress 'udp' the kernel itself drops datagrams with a wrong checksum; to relay them"
    " use 'packet'"
)


class CountedRule(NamedTuple):
    """A rule, and where its counters are."""

    rule: Rule
    resolved: ResolvedRule
    enabled: bool
    keys: bytes
    """Those of its outputs."""


class ActiveRules:
    """The rules that a core runs; none at first.

    In the main thread an exception of a signal handler, such as that of Ctrl-C, may come between
    any two steps. Therefore the core makes a change and stores its plan in one step, and each use
    first commits the stored plan to the rule set, repeatedly if that is interrupted too.
    """

    def __init__(
        self, core: RelayCore, expect: Expectation | None = None, uncounted: str | None = None
    ) -> None:
        """Use a core without rules.

        Args:
            core: moves the datagrams.
            expect: what rules expect that say nothing.
            uncounted: why no senders are counted; None if they are.
        """
        self.core = core
        self.monitor = CounterMonitor(expect, core, core.ingress, TIMING)
        self.troubles = TroubleMonitor()
        self._default = expect or EMPTY
        self._counted: dict[str, CountedRule] = {}
        self._counted_of: tuple[ActiveRule, ...] = ()
        self._set = RuleSet(core.ingress, uncounted=uncounted)
        self._warnings: tuple[str, ...] = ()
        self._committed: RulePlan | None = None

    @classmethod
    def open(
        cls,
        settings: RelaySettings,
        candidate: CandidateRules,
        names: HostResolver,
        *,
        has_spares: bool,
    ) -> Self:
        """Run candidate rules in a new core, which stops if they cannot run.

        Args:
            settings: the settings of the core.
            candidate: the rules, and which of them are disabled.
            names: their host names.
            has_spares: whether the core opens spare sockets, for the time after rights are dropped.

        Raises:
            RuleError, InterfaceError, RightsError: nothing is open.
        """
        core = RelayCore(
            settings.ingress,
            settings.egress,
            settings.offload,
            settings.workers,
            settings.buffer_bytes,
            settings.cpus,
            settings.verify_checksums,
            settings.flows,
            settings.latency,
        )
        active = cls(core, settings.expect, settings.uncounted)
        try:
            # First, so that the spare sockets are counted where descriptors are few.
            if has_spares:
                core.open_spares()
            active.change(
                add=candidate.rules,
                names=names,
                disabled=candidate.disabled,
                shaping=candidate.shaping,
            )
        except BaseException:
            core.stop()
            raise
        if core.ingress == "udp" and not settings.verify_checksums:
            active.warn([_KERNEL_VERIFIES])
        return active

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, oldest first."""
        self._catch_up()
        return self._set.rules

    @property
    def answers(self) -> ResolvedHosts:
        """The addresses of the host names in use."""
        self._catch_up()
        return self._set.answers

    @property
    def shaping(self) -> Shaping:
        """The classes, and the rates of interfaces."""
        self._catch_up()
        return self._set.shaping

    @property
    def unfinished(self) -> tuple[Rule, ...]:
        """The rules that wait for something that the core does not see."""
        self._catch_up()
        return tuple(each.rule for each in self._set.unfinished)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings about the rules, and those of the core about their sockets."""
        self._catch_up()
        return self._warnings + tuple(self.core.warnings())

    def __len__(self) -> int:
        """The number of rules, without waiting for a change."""
        return len(self._set)

    def warn(self, warnings: Iterable[str]) -> None:
        """Add warnings, each text once, up to a limit."""
        every = dict.fromkeys((*self._warnings, *warnings))
        self._warnings = tuple(islice(every, _WARNINGS_LIMIT))

    def find(self, rule: Rule | str) -> str | None:
        """The id of a rule, given as a value, or by its id or its name."""
        self._catch_up()
        return self._set.find(rule)

    def stats(self, uptime_s: float) -> Stats:
        """Return one consistent reading of all counters."""
        self._catch_up()
        report, alarms = self.core.stats(), self.monitor.alarms
        stats = stats_from_report(report, self._set.active, self._set.before, uptime_s, alarms)
        latency = self.core.latency([rule.id for rule in stats.rules])
        rules = tuple(with_latency(stats.rules, latency))
        classes = class_stats(self._set.shaping, self._set, rules)
        return replace(stats, rules=rules, classes=classes)

    @property
    def watched(self) -> dict[str, CountedRule]:
        """All rules by id, for the monitor; the same mapping while none of them changes."""
        self._catch_up()
        active = self._set.active
        if len(active) == len(self._counted_of) and all(map(is_, active, self._counted_of)):
            return self._counted
        known, self._counted, self._counted_of = self._counted, {}, active
        for each in active:
            before = known.get(each.id)
            same = before is not None and before.resolved is each.resolved
            keys = before.keys if before is not None and same else output_keys(each.spec)
            self._counted[each.id] = CountedRule(each.rule, each.resolved, each.enabled, keys)
        return self._counted

    @property
    def expects(self) -> bool:
        """Whether any rule expects something."""
        own = (rule.expect or self._default for rule in self.rules)
        return any(not each.is_empty for each in own)

    def flows(self, rule_ids: Iterable[str] | None) -> tuple[FlowStats, ...] | None:
        """Return the flows of all rules or of these; None if they are not counted."""
        self._catch_up()
        every = [rule.id for rule in self.rules]
        flows = self.core.flows(every if rule_ids is None else list(rule_ids))
        return None if flows is None else tuple(map(flow_stats, flows))

    def explainer(self, uptime_s: float) -> RuleExplainer:
        """Compile the rules to explain datagrams, with what keeps them from working now."""
        known = {
            each.id: (each.facts.obstacle, tuple(output.parked for output in each.outputs))
            for each in self.stats(uptime_s).rules
        }
        return RuleExplainer(
            self._set.active, self.core.ingress, lambda each: known[each], self._set.shaping
        )

    def change(
        self,
        *,
        remove: Iterable[str] = (),
        add: Iterable[Rule],
        names: HostResolver,
        disabled: Iterable[str] = (),
        shaping: Shaping | None = None,
    ) -> None:
        """Remove and add rules; those that are removed and added unchanged keep running.

        A rule that is removed and added again stays enabled or disabled. Of the new rules, those
        with the ids `disabled` are disabled.

        Raises:
            RuleError, InterfaceError, RightsError: nothing has changed.
        """
        self._catch_up()
        enabled = dict.fromkeys(disabled, False)
        rules = self._set.identified(add)
        plan = self._set.plan(
            interfaces(), remove=remove, add=rules, names=names, enabled=enabled, shaping=shaping
        )
        self._apply(plan)

    def reshape(self, shaping: Shaping) -> None:
        """Use other classes and rates of interfaces; no rule changes.

        Raises:
            RuleError: a rule is in a class that these lack; nothing has changed.
            EngineError: the engine has ended.
        """
        self._catch_up()
        self._apply(self._set.plan(interfaces(), shaping=shaping))

    def edit(self, rule_id: str, edit: RuleEdit, names: HostResolver) -> None:
        """Edit a rule; its id and counters stay, and so do the outputs that are not named.

        Raises:
            RuleError, InterfaceError, RightsError: nothing has changed.
        """
        self._catch_up()
        self._apply(self._set.plan_edit(interfaces(), rule_id, edit, names))

    def set_enabled(self, rule_id: str, enabled: bool) -> None:
        """Enable or disable a rule; its sockets and counters stay.

        Raises:
            EngineError: the engine has ended.
        """
        self._catch_up()
        self._apply(self._set.plan_enabled([rule_id], enabled))

    def follow(self, changed: Container[HostName], names: HostResolver) -> None:
        """Send to the addresses in `names` instead of the former ones of changed host names.

        Raises:
            RuleError, InterfaceError, RightsError: nothing has changed.
        """
        self._catch_up()
        self._apply(self._set.replan(interfaces(), self._set.using(changed), names))

    def finish(self, names: HostResolver) -> None:
        """Resolve unfinished rules again, each by itself: one that is refused delays no other."""
        self._catch_up()
        host = interfaces()
        for waiting in self._set.unfinished:
            try:
                plan = self._set.replan(host, [waiting.id], names)
                if plan.fresh:
                    self._apply(plan)
            except McrError as error:
                self.warn([f"rule {waiting.rule.name or waiting.id} still waits: {error}"])

    def _apply(self, plan: RulePlan) -> None:
        """Have the core make a change and store its plan."""
        put = b",".join(step.after.spec for step in plan.sent if step.layout is None)
        edit = b",".join(step.edit for step in plan.sent if step.layout is not None)
        shaping = None if plan.shaping is None else shaping_spec(plan.shaping)
        removed = list(plan.removed)
        self.core.apply(removed, b"[%s]" % put, b"[%s]" % edit, False, shaping, plan)
        self._catch_up()

    def _catch_up(self) -> None:
        """Commit the plan that the core made last; each step may be repeated."""
        plan = self.core.changed
        if isinstance(plan, RulePlan) and plan is not self._committed:
            self._set.commit(plan)
            self.warn(plan.warnings)
            self._committed = plan
