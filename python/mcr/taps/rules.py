"""Rules as taps name them."""

from ..errors import RuleError
from ..rules import Rule
from .filter import TapFilter
from .names import NamedOutput, NamedRule


def named_rule(rule: Rule) -> NamedRule:
    """A rule with the texts and interfaces of its outputs."""
    outputs = tuple(NamedOutput(str(each), each.interface) for each in rule.outputs)
    return NamedRule(rule.id, rule.name, outputs)


def check_output(wanted: TapFilter, rule: Rule) -> None:
    """Check that the rule has the output.

    Raises:
        RuleError: it has fewer outputs.
    """
    if wanted.output is not None and wanted.output > len(rule.outputs):
        text = f"must be 1 to {len(rule.outputs)}, as the rule has no more outputs"
        raise RuleError([("output", text)])
