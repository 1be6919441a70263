"""A rule of a set: as written, as resolved on this host, enabled or not, with its index keys."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, Self

from .copy_key import copy_key
from .local_host import LocalHost
from .loops import FlowKey, listener_flows
from .model import Rule
from .spec import ResolvedRule, output_spec, rule_spec, spec_members

_NOTHING: Mapping[int, Any] = MappingProxyType({})
DeviceResolver = Callable[[str], str]
"""Returns the kernel name of an interface for its name in a rule."""
RuleTurn = Literal["enabled", "disabled", "replaced"]
"""The change of a rule that stays in the set."""


class HostedRule(Protocol):
    """A rule of a relay or daemon, however that keeps it."""

    @property
    def rule(self) -> Rule:
        """As written."""

    @property
    def resolved(self) -> ResolvedRule:
        """As resolved on this host."""

    @property
    def enabled(self) -> bool:
        """Whether it relays."""


@dataclass(frozen=True, slots=True)
class ActiveRule:
    """A rule of a set."""

    id: str
    rule: Rule
    resolved: ResolvedRule
    enabled: bool
    claims: tuple[Hashable, ...]
    """Keys that must be unique: the name, and the key of each copy."""
    flows: tuple[FlowKey, ...]
    """The flow keys of the input."""
    specs: tuple[bytes, ...]
    """The specification of each output for the native core."""
    host: LocalHost | None = field(default=None, compare=False)
    """The host on which each output as written is the output as resolved, without a warning."""

    @classmethod
    def of(
        cls,
        rule: Rule,
        resolved: ResolvedRule,
        *,
        enabled: bool = True,
        host: LocalHost | None = None,
        copies: Mapping[int, tuple[Hashable, ...]] = _NOTHING,
        specs: Mapping[int, bytes] = _NOTHING,
    ) -> Self:
        """Compute the keys and specifications of a rule.

        Args:
            rule: the rule as written.
            resolved: the same as resolved.
            enabled: whether it is enabled.
            host: as the attribute.
            copies: the keys of the copies of outputs that are known, by the outputs' numbers.
            specs: the specifications that are known, likewise.
        """
        rule_input, claims = resolved.input, list[Hashable]()
        sources = rule_input.sources or (None,)
        if rule.name is not None:
            claims.append(rule.name)
        for output in resolved.outputs:
            known = copies.get(output.number)
            if known is not None:
                claims += known
            elif output.is_resolved:
                claims += [copy_key(rule_input, source, output) for source in sources]
        encoded = (specs.get(each.number) or output_spec(each) for each in resolved.outputs)
        flows = tuple(listener_flows(rule_input))
        return cls(resolved.id, rule, resolved, enabled, tuple(claims), flows, tuple(encoded), host)

    @property
    def copies(self) -> tuple[Hashable, ...]:
        """The keys of all copies: for each output in turn, one for each source."""
        return self.claims if self.rule.name is None else self.claims[1:]

    @property
    def members(self) -> bytes:
        """The members of the rule's specification beside its id and `enabled`."""
        return spec_members(self.resolved.input, self.specs)

    @property
    def spec(self) -> bytes:
        """The rule's specification for the native core."""
        return rule_spec(self.id, self.members, enabled=self.enabled)

    def with_devices(self, device: DeviceResolver) -> Self:
        """The same rule with the current kernel names of its interfaces."""
        rule_input, outputs = self.resolved.input, self.resolved.outputs
        resolved = replace(
            self.resolved,
            input=replace(rule_input, device=device(rule_input.interface)),
            outputs=tuple(replace(output, device=device(output.interface)) for output in outputs),
        )
        return self.of(self.rule, resolved, enabled=self.enabled)

    def with_enabled(self, enabled: bool) -> Self:
        """The same rule, enabled or disabled."""
        return self if self.enabled == enabled else replace(self, enabled=enabled)

    def interfaces(self) -> Iterator[tuple[str, str]]:
        """The names of its interfaces in the rule, each with its kernel name."""
        yield self.resolved.input.interface, self.resolved.input.device
        yield from ((output.interface, output.device) for output in self.resolved.outputs)


class RuleStep(NamedTuple):
    """The change of one rule."""

    before: ActiveRule | None
    """None for a rule that is new in the set."""
    after: ActiveRule

    @property
    def turn(self) -> RuleTurn | None:
        """The change of a rule that stays; None if it is new, or the same as before."""
        before, after = self
        if before is None or before is after:
            return None
        if before.enabled != after.enabled:
            return "enabled" if after.enabled else "disabled"
        if before.rule != after.rule or before.resolved != after.resolved:
            return "replaced"
        return None

    @property
    def keeps_spec(self) -> bool:
        """Whether the rule is the same for the engine, which knows no names of rules."""
        return self.before is not None and self.before.resolved == self.after.resolved

    @property
    def is_sent(self) -> bool:
        """Whether the engine must have the rule again, or for the first time."""
        return (
            self.before is None or self.before.enabled != self.after.enabled or not self.keeps_spec
        )

    def merged(self) -> Self:
        """The step in which a rule that is the same in all respects is the same object."""
        before, after = self
        if before is None or self.turn is not None:
            return self
        is_same = before.resolved.input.is_known == after.resolved.input.is_known
        return self._replace(after=before) if is_same else self
