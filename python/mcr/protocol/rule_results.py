"""What a daemon answers of its rules, as frozen values.

Owns how each is read from the protocol's objects; knows neither sockets nor methods.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from ..json_reader import Shape

Ttl = int | Literal["keep", "decrement"]
_TTL_WORDS: tuple[Literal["keep"], Literal["decrement"]] = ("keep", "decrement")


@dataclass(frozen=True, slots=True)
class RuleOutputInfo:
    """One output of a rule of the daemon."""

    output: str
    """The output as rule text."""
    ttl: Ttl
    """What copies leave with: 1 to 255, or that of each datagram."""
    parked: str | None
    """Why nothing is sent now; None while all is well."""

    @classmethod
    def read(cls, given: Shape) -> Self:
        """Read an output; ShapeError if it is none."""
        return cls(
            output=given.get("output", str), ttl=_ttl(given), parked=given.maybe("parked", str)
        )


@dataclass(frozen=True, slots=True)
class RuleInfo:
    """One rule of the daemon."""

    id: str
    """12 hex digits, the same for the same rule everywhere: `Rule.id`."""
    name: str | None
    rule: str
    """The canonical text."""
    enabled: bool
    state: str
    """One sentence that says how the rule is doing; "disabled" for a disabled one."""
    outputs: tuple[RuleOutputInfo, ...]
    object: Mapping[str, Any] | None = field(default=None, hash=False)
    """The rule as the protocol's object, only where its text cannot be read back, since it names
    an interface with a character of the text's grammar in its name."""

    @classmethod
    def read(cls, given: Shape) -> Self:
        """Read a rule; ShapeError if it is none."""
        return cls(
            id=given.get("id", str),
            name=given.maybe("name", str),
            rule=given.get("rule", str),
            enabled=given.get("enabled", bool),
            state=given.get("state", str),
            outputs=tuple(map(RuleOutputInfo.read, given.objects("outputs"))),
            object=given.nested("object").plain() if given.has("object") else None,
        )

    @classmethod
    def read_one(cls, given: Shape) -> Self:
        """Read the result of ``rules.get``; ShapeError if it is none."""
        return cls.read(given.nested("rule"))


@dataclass(frozen=True, slots=True)
class RuleList:
    """Rules of the daemon, and the revision that they were of."""

    revision: int
    """What to give as `expected_revision` to a change that builds on these rules."""
    rules: tuple[RuleInfo, ...]

    def __iter__(self) -> Iterator[RuleInfo]:
        """The rules, oldest first."""
        return iter(self.rules)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.rules)

    @classmethod
    def read(cls, given: Shape) -> Self:
        """Read the result of ``rules.list``; ShapeError if it is none."""
        rules = tuple(map(RuleInfo.read, given.objects("rules")))
        return cls(revision=given.count("revision"), rules=rules)


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """What a change of the rules has done, or with `dry_run` would do."""

    revision: int
    """The revision after the change; with `dry_run` the one that there is."""
    dry_run: bool
    added: tuple[RuleInfo, ...]
    removed: tuple[str, ...]
    """The ids of rules that are gone."""
    kept: tuple[str, ...]
    """The ids of rules that were asked for and there already; their counters went on."""
    changed: tuple[str, ...]
    """The ids of rules that were enabled or disabled."""
    warnings: tuple[str, ...]

    @classmethod
    def read(cls, given: Shape) -> Self:
        """Read the result of a change; ShapeError if it is none."""
        return cls(
            revision=given.count("revision"),
            dry_run=given.get("dry_run", bool),
            added=tuple(map(RuleInfo.read, given.objects("added"))),
            removed=given.array("removed", str),
            kept=given.array("kept", str),
            changed=given.array("changed", str),
            warnings=given.array("warnings", str),
        )


def _ttl(given: Shape) -> Ttl:
    word = given.plain().get("ttl")
    for known in _TTL_WORDS:
        if word == known:
            return known
    return given.get("ttl", int)
