"""The rules of a relay that is not open yet.

Changes apply at once, without checks against the host.
"""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from ..rules import Rule, parse_rules
from ..rules.edit import RuleEdit
from ..rules.hostnames import ResolvedHosts
from ..rules.shaping import Shaping


class CandidateRules:
    """Rules before they run. Not thread-safe."""

    answers: Final[ResolvedHosts] = MappingProxyType({})
    """Empty: host names are resolved when the relay opens."""
    warnings: Final[tuple[str, ...]] = ()
    """Empty: rules are checked when the relay opens."""

    def __init__(self, rules: Iterable[Rule | str], shaping: Shaping) -> None:
        """Parse the rules; all of them are enabled.

        Args:
            rules: values or text.
            shaping: the classes, and the rates of interfaces.

        Raises:
            RuleError: the text of a rule is invalid; `problems` has all problems.
        """
        self.rules = parse_rules(rules)
        """In the order in which they were added."""
        self.disabled: set[str] = set()
        """The ids of the disabled rules."""
        self.shaping = shaping

    def __len__(self) -> int:
        """The number of rules."""
        return len(self.rules)

    def find(self, rule: Rule | str) -> str | None:
        """The id of a rule, given as a value, or by its id or name; None if it is not here."""
        key = rule.id if isinstance(rule, Rule) else rule
        return next((each.id for each in self.rules if key in (each.id, each.name)), None)

    def change(self, *, remove: Iterable[str], add: Iterable[Rule]) -> None:
        """Remove rules by their ids, and append rules."""
        removed = set(remove)
        rules = (*(rule for rule in self.rules if rule.id not in removed), *add)
        disabled = self.disabled & {rule.id for rule in rules}
        self.rules, self.disabled = rules, disabled

    def reshape(self, shaping: Shaping) -> None:
        """Use other classes and rates of interfaces.

        Raises:
            RuleError: a rule is in a class that these lack.
        """
        shaping.check_users((rule.traffic_class, rule.name or rule.id) for rule in self.rules)
        self.shaping = shaping

    def edit(self, rule_id: str, edit: RuleEdit) -> None:
        """Edit a rule, which keeps its id and its place.

        Raises:
            RuleError: nothing has changed.
        """
        self.rules = tuple(
            edit.apply(rule).rule if rule.id == rule_id else rule for rule in self.rules
        )

    def set_enabled(self, rule_id: str, enabled: bool) -> None:
        """Enable or disable a rule."""
        if enabled:
            self.disabled.discard(rule_id)
        else:
            self.disabled.add(rule_id)
