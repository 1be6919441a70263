"""The rules with which a relay will open.

Owns how they change until then: at once, and without a look at the host.
"""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from ..rules import Rule, parse_rules
from ..rules.hostnames import ResolvedHosts


class CandidateRules:
    """Rules that no core has yet. Not thread-safe."""

    answers: Final[ResolvedHosts] = MappingProxyType({})
    """Their host names are asked for when they run."""
    warnings: Final[tuple[str, ...]] = ()
    """Nothing is known yet."""

    def __init__(self, rules: Iterable[Rule | str]) -> None:
        """Take rules, as values or as text; all of them are enabled.

        Raises:
            RuleError: rule text that cannot be read; its `problems` names all of them.
        """
        self.rules = parse_rules(rules)
        """Oldest first."""
        self.disabled: set[str] = set()
        """The ids of those that shall take nothing."""

    def __len__(self) -> int:
        """How many rules there are."""
        return len(self.rules)

    def find(self, rule: Rule | str) -> str | None:
        """The id of a rule, given as a value, or by its id or its name."""
        wanted = rule.id if isinstance(rule, Rule) else rule
        return next((each.id for each in self.rules if wanted in (each.id, each.name)), None)

    def change(self, *, remove: Iterable[str], add: Iterable[Rule]) -> None:
        """Remove rules by their ids, and add rules behind the others."""
        gone = set(remove)
        rules = (*(rule for rule in self.rules if rule.id not in gone), *add)
        disabled = self.disabled & {rule.id for rule in rules}
        self.rules, self.disabled = rules, disabled

    def set_enabled(self, rule_id: str, enabled: bool) -> None:
        """Let a rule take datagrams or not, once it runs."""
        if enabled:
            self.disabled.discard(rule_id)
        else:
            self.disabled.add(rule_id)
