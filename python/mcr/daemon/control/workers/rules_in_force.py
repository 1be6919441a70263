"""What the pool must know of the rules in force to give them to workers."""

from collections.abc import Mapping
from typing import Protocol

from ....rules.shaping import Shaping


class RuleInForce(Protocol):
    """A rule in force."""

    @property
    def enabled(self) -> bool:
        """Whether it relays."""

    @property
    def title(self) -> str:
        """How clients know it: its name, or its text."""

    @property
    def members(self) -> bytes:
        """Its `spec_members`."""


class RulesInForce(Protocol):
    """The rules in force."""

    @property
    def revision(self) -> int:
        """Their revision."""

    @property
    def shaping(self) -> Shaping:
        """The classes, and the rates of interfaces."""

    @property
    def rules(self) -> Mapping[str, RuleInForce]:
        """The rules by id, in their order; replaced, never changed."""
