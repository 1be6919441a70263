"""The commands `mcr rule ...`: the rules of a daemon, listed and changed."""

import sys
from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from ..client import ChangeResult, RuleList, methods
from ..client.methods import Call, NewRule
from ..rules import Rule
from ..rules.grammar import join_arguments
from .options import AnswerAsJson, SocketOption
from .remote import ask
from .rule_file import read_rules
from .show import printable, show_table
from .usage import usage_of

app = typer.Typer(no_args_is_help=False, help="The rules of a daemon.")

_Rules = Annotated[
    list[str],
    typer.Argument(
        metavar="RULE",
        help="Where from and where to, as for mcr relay. One rule needs no quotes; quote each of"
        " several.",
    ),
]
_Known = Annotated[
    list[str], typer.Argument(metavar="RULE", help="The id, the name or the text of a rule.")
]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Judge the change and say what it would do; do nothing.")
]
_Expected = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=0, help="Change nothing if the rules are no longer at this revision."
    ),
]


@app.command("add", short_help="Add rules.")
def add(
    rules: _Rules,
    disabled: Annotated[
        bool, typer.Option("--disabled", help="Add them without relaying yet.")
    ] = False,
    dry_run: _DryRun = False,
    expected_revision: _Expected = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Add rules, all or nothing; it ends when every worker relays them.

    A rule that is there already is left as it is and reported as unchanged.
    """
    call = methods.add_rules(
        join_arguments(rules),
        enabled=not disabled,
        expected_revision=expected_revision,
        dry_run=dry_run,
    )
    ask(socket, call, as_json, _show_change)


@app.command("replace", short_help="Make these the rules.")
def replace(
    rules: Annotated[
        list[str] | None, typer.Argument(metavar="RULE", help="As for mcr rule add.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Take the rules from a file as mcr serve --config has, or from what mcr rule list"
            " --json has printed; - is standard input.",
        ),
    ] = None,
    dry_run: _DryRun = False,
    expected_revision: _Expected = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Make these the rules of the daemon, all or nothing; rules that stay are not touched."""
    if (file is None) == (not rules):
        raise typer.BadParameter(
            "give rules, or a file of rules with --file; one of the two", param_hint="'RULE'"
        )
    wanted: list[NewRule] = [*join_arguments(rules or [])]
    if file is not None:
        with usage_of("--file"):
            wanted = read_rules(file)
    call = methods.replace_rules(wanted, expected_revision=expected_revision, dry_run=dry_run)
    ask(socket, call, as_json, _show_change)


@app.command("remove", short_help="Remove rules.")
def remove(
    rules: _Known,
    dry_run: _DryRun = False,
    expected_revision: _Expected = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Remove rules, all or nothing."""
    _change_known(methods.remove_rules, rules, dry_run, expected_revision, socket, as_json)


@app.command("enable", short_help="Let rules relay again.")
def enable(
    rules: _Known,
    dry_run: _DryRun = False,
    expected_revision: _Expected = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Let rules relay again, all or nothing."""
    _change_known(methods.enable_rules, rules, dry_run, expected_revision, socket, as_json)


@app.command("disable", short_help="Stop rules from relaying, without removing them.")
def disable(
    rules: _Known,
    dry_run: _DryRun = False,
    expected_revision: _Expected = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Stop rules from relaying, all or nothing; they keep their counters and their joins."""
    _change_known(methods.disable_rules, rules, dry_run, expected_revision, socket, as_json)


@app.command("list", short_help="List the rules and how each is doing.")
def list_rules(
    rules: Annotated[
        list[str] | None,
        typer.Argument(metavar="RULE", help="Only these, by id, name or text."),
    ] = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """List the rules of the daemon, oldest first, and how each is doing."""
    ask(socket, methods.rules(known_rules(rules)), as_json, _show_rules)


def known_rules(arguments: list[str] | None) -> list[str] | None:
    """The ids and names that a command line means; a rule's text stands for its id.

    Raises:
        RuleError: an argument with a space in it that is no rule.
    """
    if not arguments:
        return None
    texts = join_arguments(arguments) if "to" in arguments else arguments
    return [Rule.parse(text).id if " " in text else text for text in texts]


def _change_known(
    make: Callable[..., Call[ChangeResult]],
    rules: list[str],
    dry_run: bool,
    expected_revision: int | None,
    socket: str | None,
    as_json: bool,
) -> None:
    call = make(known_rules(rules), expected_revision=expected_revision, dry_run=dry_run)
    ask(socket, call, as_json, _show_change)


def _show_rules(listed: RuleList) -> None:
    if not listed.rules:
        print("no rules; mcr rule add makes one")
        return
    show_table(
        ("id", "name", "rule", "enabled", "state"),
        (
            (rule.id, rule.name or "-", rule.rule, "yes" if rule.enabled else "no", rule.state)
            for rule in listed
        ),
    )


def _show_change(change: ChangeResult) -> None:
    for warning in change.warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    for rule in change.added:
        hops = ", ".join(str(output.ttl) for output in rule.outputs)
        print(printable(f"added {rule.id}: {rule.rule} (ttl {hops}): {rule.state}"))
    _show_ids("removed", change.removed)
    _show_ids("changed", change.changed)
    _show_ids("unchanged", change.kept)
    trial = "; a dry run, nothing has changed" if change.dry_run else ""
    print(f"revision {change.revision}{trial}", flush=True)


def _show_ids(verb: str, ids: Iterable[str]) -> None:
    for each in ids:
        print(f"{verb} {printable(each)}")
