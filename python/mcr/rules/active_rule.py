"""A rule of a set: as written, as resolved on this host, enabled or not, with its index keys."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Protocol, Self, cast

from .copy_key import CopyKey, copy_keys
from .layout import Layout, arranged, new_outputs
from .local_host import LocalHost
from .loops import FlowKey, listener_flows
from .model import Rule
from .spec import ResolvedRule, edit_spec, output_spec, rule_spec, spec_members

DeviceResolver = Callable[[str], str]
"""Returns the kernel name of an interface for its name in a rule."""
RuleTurn = Literal["enabled", "disabled", "replaced", "edited"]
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
        before: Self | None = None,
        layout: Layout | None = None,
    ) -> Self:
        """Compute the keys and specifications of a rule.

        Args:
            rule: the rule as written.
            resolved: the same as resolved.
            enabled: whether it is enabled.
            host: as the attribute.
            before: the rule that it replaces, some outputs of which it has too.
            layout: which ones.
        """
        copies: tuple[CopyKey, ...]
        if before is None or layout is None:
            copies = tuple(copy_keys(resolved, resolved.outputs))
            specs = tuple(map(output_spec, resolved.outputs))
        else:
            new = new_outputs(layout, resolved)
            new_keys = {place: copy_keys(resolved, outputs) for place, outputs in new.items()}
            new_specs = {place: [*map(output_spec, outputs)] for place, outputs in new.items()}
            copies = arranged(layout, before.copies, new_keys, len(resolved.senders))
            specs = arranged(layout, before.specs, new_specs)
        return cls(
            resolved.id,
            rule,
            resolved,
            enabled,
            claims=copies if rule.name is None else (rule.name, *copies),
            flows=tuple(flow for each in resolved.inputs for flow in listener_flows(each)),
            specs=specs,
            host=host,
        )

    @property
    def copies(self) -> tuple[CopyKey, ...]:
        """The keys of all copies: for each output in turn, one for each source."""
        return cast(tuple[CopyKey, ...], self.claims[self.rule.name is not None :])

    @property
    def members(self) -> bytes:
        """The members of the rule's specification beside its id and `enabled`."""
        return spec_members(self.resolved, self.specs)

    @property
    def spec(self) -> bytes:
        """The rule's specification for the native core."""
        return rule_spec(self.id, self.members, enabled=self.enabled)

    def with_devices(self, device: DeviceResolver) -> Self:
        """The same rule with the current kernel names of its interfaces."""
        outputs = self.resolved.outputs
        first, *others = (
            replace(each, device=device(each.interface)) for each in self.resolved.inputs
        )
        resolved = replace(
            self.resolved,
            input=first,
            others=tuple(others),
            outputs=tuple(replace(output, device=device(output.interface)) for output in outputs),
        )
        return self.of(self.rule, resolved, enabled=self.enabled)

    def with_enabled(self, enabled: bool) -> Self:
        """The same rule, enabled or disabled."""
        return self if self.enabled == enabled else replace(self, enabled=enabled)

    def interfaces(self) -> set[tuple[str, str]]:
        """The names of its interfaces in the rule, each with its kernel name."""
        pairs = {(output.interface, output.device) for output in self.resolved.outputs}
        return pairs | {(taken.interface, taken.device) for taken in self.resolved.inputs}


class RuleStep(NamedTuple):
    """The change of one rule."""

    before: ActiveRule | None
    """None for a rule that is new in the set."""
    after: ActiveRule
    layout: Layout | None = None
    """Which outputs it has from before; None if they are not known to be the same."""

    @property
    def edit(self) -> bytes:
        """The change for an engine that has the rule as it was before."""
        assert self.layout is not None
        after = self.after
        new = new_outputs(self.layout, after.resolved)
        return edit_spec(after.resolved, self.layout, new, after.specs, enabled=after.enabled)

    @property
    def turn(self) -> RuleTurn | None:
        """The change of a rule that stays; None if it is new, or the same as before."""
        before, after = self.before, self.after
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
        before, after = self.before, self.after
        if before is None or self.turn is not None:
            return self
        is_same = before.resolved.input.is_known == after.resolved.input.is_known
        return self._replace(after=before) if is_same else self
