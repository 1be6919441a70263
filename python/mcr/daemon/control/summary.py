"""The last report: what was relayed, in a few lines for people.

Owns its words. Knows no processes.
"""

from collections.abc import Sequence

from ...rules.model import counted
from ...stats import RuleStats
from .api.results import Totals

RULES_LISTED = 20
"""With so many rules or more, only the sums are told."""


def final_summary(totals: Totals, rules: Sequence[RuleStats]) -> str:
    """The report, without a line feed at its end."""
    lost: dict[str, int] = {}
    for rule in rules:
        for output in rule.outputs:
            for reason, count in output.dropped.items():
                lost[reason] = lost.get(reason, 0) + count
    # Interfaces are counted for all rules ever, outputs for the rules that are left.
    lines = [
        f"all interfaces: received {totals['received']}, matched {totals['matched']}, kernel"
        f" dropped {totals['kernel_dropped_frames']} frames{_reasons(totals['dropped'])}",
        f"{counted(len(rules))} at the end: sent {totals['sent']} of {totals['wanted']},"
        f" lost {totals['lost']}{_reasons(lost)}",
    ]
    if len(rules) < RULES_LISTED:
        lines += [
            f"rule {rule.name or rule.id}: matched {rule.matched},"
            f" sent {sum(output.sent for output in rule.outputs)}, lost {rule.lost}"
            for rule in rules
        ]
    return "\n".join(lines)


def _reasons(counts: dict[str, int]) -> str:
    told = [f"{count} {reason}" for reason, count in counts.items() if count]
    return f" ({', '.join(told)})" if told else ""
