"""The rules that a command line names, and the effect of a change for people."""

import sys
from collections.abc import Iterable

from ..protocol.results import ChangeResult
from ..protocol.text import printable
from ..rules import Rule
from ..rules.grammar import join_arguments


def known_rules(arguments: list[str] | None) -> list[str] | None:
    """The ids and names of rules that a command line names by id, name or text.

    Raises:
        RuleError: an argument contains a space and is not a rule.
    """
    if not arguments:
        return None
    texts = join_arguments(arguments) if "to" in arguments else arguments
    return [Rule.parse(text).id if " " in text else text for text in texts]


def show_change(change: ChangeResult) -> None:
    """Print what a change has done, and its warnings on standard error."""
    show_warnings(change.warnings)
    for rule in change.added:
        hops = ", ".join(str(output.ttl) for output in rule.outputs)
        print(printable(f"added {rule.id}: {rule.rule} (ttl {hops}): {rule.state}"))
    _show_ids("removed", change.removed)
    _show_ids("changed", change.changed)
    _show_ids("unchanged", change.kept)
    trial = " (dry run: nothing has changed)" if change.dry_run else ""
    print(f"revision {change.revision}{trial}", flush=True)


def show_warnings(warnings: Iterable[str]) -> None:
    """Print the warnings of a daemon on standard error."""
    for warning in warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)


def _show_ids(verb: str, ids: Iterable[str]) -> None:
    for each in ids:
        print(f"{verb} {printable(each)}")
