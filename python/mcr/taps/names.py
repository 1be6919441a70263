"""The names of what records refer to by numbers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..json_codec import JsonObject


@dataclass(frozen=True, slots=True)
class NamedOutput(JsonObject):
    """An output of a rule."""

    output: str
    """Its text."""
    interface: str | None
    """The name of its interface; None if the route determines it."""


@dataclass(frozen=True, slots=True)
class NamedRule(JsonObject):
    """A rule that a tap takes."""

    id: str
    name: str | None
    outputs: tuple[NamedOutput, ...]


@dataclass(frozen=True, slots=True)
class NamedInterface(JsonObject):
    """An interface of the host."""

    index: int
    name: str


@dataclass(slots=True)
class Names:
    """The names when a tap began; what came later has numbers only."""

    interfaces: Mapping[int, str] = field(default_factory=dict)
    rules: Mapping[str, NamedRule] = field(default_factory=dict)

    @classmethod
    def of(cls, interfaces: Iterable[NamedInterface], rules: Iterable[NamedRule]) -> "Names":
        """The names in two lists."""
        return cls(
            {each.index: each.name for each in interfaces}, {each.id: each for each in rules}
        )

    def rule(self, rule_id: str) -> str:
        """The name of a rule, or its id."""
        rule = self.rules.get(rule_id)
        return rule_id if rule is None or rule.name is None else rule.name

    def output(self, rule_id: str, number: int) -> NamedOutput:
        """The output of a rule with this number, from 1."""
        outputs = self.rules[rule_id].outputs if rule_id in self.rules else ()
        if number <= len(outputs):
            return outputs[number - 1]
        return NamedOutput(f"output {number}", None)
