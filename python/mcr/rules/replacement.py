"""A rule that replaces another one with the same input: what the outputs of both have in common.

An output that stays is neither resolved nor checked again.
"""

from .active_rule import ActiveRule
from .layout import Layout, all_new, layout_between, missing_runs
from .local_host import LocalHost
from .model import Rule
from .spec import ResolvedOutput


class Replacement:
    """The outputs of a new rule that the replaced one has too."""

    def __init__(
        self, before: ActiveRule | None, rule: Rule, host: LocalHost, layout: Layout | None = None
    ) -> None:
        """Find the common outputs; there are none without a replaced rule, or on another host.

        Args:
            before: the replaced rule, with the same input.
            rule: the new rule.
            host: the host as it is now.
            layout: the layout of the new rule, if it is known.
        """
        self.before = before if before is not None and before.host is host else None
        self.layout: Layout = (
            all_new(rule)
            if self.before is None
            else layout or layout_between(self.before.rule, rule)
        )

    @property
    def known(self) -> tuple[ResolvedOutput, ...]:
        """The resolved outputs of the replaced rule."""
        return () if self.before is None else self.before.resolved.outputs

    def given_up(self) -> list[object]:
        """The keys of the copies of outputs that only the replaced rule has."""
        assert self.before is not None
        copies = self.before.copies
        each = sum(max(len(own.sources), 1) for own in self.before.resolved.inputs)
        return [
            claim
            for run in missing_runs(self.layout, len(self.before.rule.outputs))
            for claim in copies[run.start * each : run.stop * each]
        ]
