"""The rules inside a native core: under which key each runs, and what their host names are.

Owns how a change goes from the rules' plan to the core, all or nothing. Knows neither life cycle
nor threads: whoever shares it locks.
"""

from collections.abc import Container, Iterable
from dataclasses import replace

from ._native import RelayCore, interfaces
from .config import RuleSet
from .names import Answers, Name, Names, uses
from .reading import Running, stats_of
from .rules import Rule
from .stats import Stats


class RunningRules:
    """The rules that a core runs; none at first."""

    def __init__(self, core: RelayCore, disabled: Iterable[str] = ()) -> None:
        """Take a core without rules; those with the ids `disabled` will take nothing."""
        self.core = core
        self.answers: Answers = {}
        """The addresses of the host names in use."""
        self._set = RuleSet(core.ingress)
        self._by_id: dict[str, Running] = {}
        self._disabled = set(disabled)
        self._warnings: tuple[str, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, oldest first."""
        return self._set.rules

    def __len__(self) -> int:
        """How many rules run."""
        return len(self._set)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of the rules, and what the core says of their sockets."""
        return self._warnings + tuple(self.core.warnings())

    def warn(self, warnings: Iterable[str]) -> None:
        """Keep warnings; the same is said once."""
        self._warnings = tuple(dict.fromkeys((*self._warnings, *warnings)))

    def find(self, rule: Rule | str) -> str | None:
        """The id of a rule, given as a value, or by its id or its name."""
        return self._set.find(rule)

    def stats(self) -> Stats:
        """Return one consistent reading of all counters."""
        return stats_of(self.core.stats(), self._by_id.values())

    def change(self, *, remove: Iterable[str] = (), add: Iterable[Rule], names: Names) -> None:
        """Remove and add rules; those that go and come back the same stay untouched in the core.

        Raises:
            RuleError, InterfaceError, RightsError: nothing has changed.
        """
        plan = self._set.plan(interfaces(), remove=remove, add=add, names=names)
        coming = {
            rule.id: Running(0, rule, replace(resolved, paused=rule.id in self._disabled))
            for rule, resolved in zip(plan.added, plan.resolved, strict=True)
        }
        kept = {
            rule_id: new._replace(key=old.key)
            for rule_id, new in coming.items()
            if (old := self._by_id.get(rule_id)) is not None and old.resolved == new.resolved
        }
        fresh = {rule_id: new for rule_id, new in coming.items() if rule_id not in kept}
        gone = [self._by_id[rule_id].key for rule_id in plan.removed if rule_id not in kept]
        keys = self.core.change(gone, [new.resolved for new in fresh.values()])
        self._set.commit(plan)
        kept |= {
            rule_id: new._replace(key=key)
            for (rule_id, new), key in zip(fresh.items(), keys, strict=True)
        }
        for rule_id in plan.removed:
            del self._by_id[rule_id]
        self._by_id |= {rule_id: kept[rule_id] for rule_id in coming}
        self._disabled &= self._by_id.keys()
        self.answers = names.known(self._set)
        self.warn(plan.warnings)

    def set_enabled(self, rule_id: str, enabled: bool) -> None:
        """Let a rule take datagrams or not; its sockets and counters stay.

        Raises:
            EngineError: the engine has ended.
        """
        self.core.set_paused([self._by_id[rule_id].key], not enabled)
        if enabled:
            self._disabled.discard(rule_id)
        else:
            self._disabled.add(rule_id)

    def follow(self, changed: Container[Name], names: Names) -> None:
        """Send what goes to host names that have changed to their addresses in `names`.

        Raises:
            RuleError, InterfaceError, RightsError: nothing has changed.
        """
        order = [rule.id for rule in self._set.rules]
        followers = [rule for rule in self._set.rules if uses(rule, changed)]
        self.change(remove=[rule.id for rule in followers], add=followers, names=names)
        self._set.arrange(order)
        self._by_id = {rule_id: self._by_id[rule_id] for rule_id in order}
