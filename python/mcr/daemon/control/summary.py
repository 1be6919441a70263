"""The final summary of a daemon: what it relayed, in a few lines of text."""

from collections.abc import Mapping, Sequence

from ...protocol.results import Totals
from ...rules.model import counted
from ...stats import RuleStats

RULES_LISTED = 20
"""With this many rules or more, the summary has the sums only."""


def final_summary(totals: Totals, rules: Sequence[RuleStats]) -> str:
    """Return the summary, without a trailing newline."""
    lost: dict[str, int] = {}
    for rule in rules:
        for output in rule.outputs:
            for reason, count in output.dropped.items():
                lost[reason] = lost.get(reason, 0) + count
    # The counts of interfaces include removed rules, those of outputs do not.
    lines = [
        f"all interfaces: received {totals.received}, matched {totals.matched}, kernel"
        f" dropped {totals.kernel_dropped_frames} frames{_reasons(totals.dropped)}",
        f"{counted(len(rules))} at the end: sent {totals.sent} of {totals.wanted},"
        f" lost {totals.lost}{_reasons(lost)}",
    ]
    if len(rules) < RULES_LISTED:
        lines += [
            f"rule {rule.name or rule.id}: matched {rule.matched},"
            f" sent {sum(output.sent for output in rule.outputs)}, lost {rule.lost}"
            for rule in rules
        ]
    return "\n".join(lines)


def _reasons(counts: Mapping[str, int]) -> str:
    parts = [f"{count} {reason}" for reason, count in counts.items() if count]
    return f" ({', '.join(parts)})" if parts else ""
