"""The commands `mcr rule ...`, which list and change the rules of a daemon."""

import json
from collections.abc import Callable
from dataclasses import replace as replace_fields
from typing import Annotated

import typer

from ..client import methods
from ..client.methods import Call, NewRule
from ..protocol.results import ChangeResult, RuleInfo, RuleList
from ..protocol.selection import ListOrder, arranged, loses, state_colour
from ..protocol.summary import relayer
from ..protocol.text import printable
from ..rules.grammar import join_arguments
from .help import CommandGroup, add_command, epilog_of
from .options import AnswerAsJson, DryRunOption, ExpectedRevision, SocketOption
from .output import show_table
from .pager import paged
from .remote import ask, connect
from .rule_edit import EditCommand, edit
from .rule_output import known_rules, show_change
from .selection import NoPager, OnlyProblems, SomeRules
from .usage import usage_of

NO_RULES = "no rules; add one with mcr rule add"

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=False,
    help="Add, edit, remove, list, enable, disable or replace rules.\n\nA change is made whole or"
    " not at all, and takes effect while traffic runs.",
    epilog=epilog_of(["mcr rule list"]),
)

_RULES_HELP = (
    "A rule: INPUT to OUTPUT [OUTPUT...]. A single rule needs no quotes; quote each of several."
)
_Known = Annotated[
    list[str], typer.Argument(metavar="RULE", help="The id, the name or the text of a rule.")
]


def add(
    rules: Annotated[list[str] | None, typer.Argument(metavar="RULE", help=_RULES_HELP)] = None,
    sdp: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Add rules for the streams of a session description, with its source filters; -"
            " is standard input. Needs --interface and --to.",
        ),
    ] = None,
    interface: Annotated[
        str | None, typer.Option(metavar="IFACE", help="Where the streams of --sdp arrive.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="OUTPUT", help="The output for --sdp; %IFACE keeps the group and port."
        ),
    ] = None,
    disabled: Annotated[
        bool, typer.Option("--disabled", help="Add the rules disabled: they do not relay yet.")
    ] = False,
    dry_run: DryRunOption = False,
    expected_revision: ExpectedRevision = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Add rules, all or none.

    Returns once every worker relays by them. A rule that exists already stays as it is and is
    reported as unchanged.
    """
    if (sdp is None) == (not rules) or len({sdp is None, interface is None, to is None}) > 1:
        raise typer.BadParameter(
            "give rules, or --sdp with --interface and --to; one of the two", param_hint="'RULE'"
        )
    wanted = join_arguments(rules or [])
    if sdp is not None and interface is not None and to is not None:
        from .sdp_rules import rules_of_sdp  # noqa: PLC0415 -- slow to load, like rule_file

        with usage_of("--sdp"):
            wanted = rules_of_sdp(sdp, interface, to)
    call = methods.add_rules(
        wanted,
        enabled=not disabled,
        expected_revision=expected_revision,
        dry_run=dry_run,
    )
    ask(socket, call, as_json, show_change)


def replace(
    rules: Annotated[
        list[str] | None, typer.Argument(metavar="RULE", help="Rules, as for mcr rule add.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Read the rules from a file such as that of mcr serve --config, or from the output"
            " of mcr rule list --json; - is standard input.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    expected_revision: ExpectedRevision = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Replace all rules of the daemon by these.

    Rules that are among both stay untouched: their traffic and counters continue.
    """
    if (file is None) == (not rules):
        raise typer.BadParameter(
            "give rules, or a file of rules with --file; one of the two", param_hint="'RULE'"
        )
    wanted: list[NewRule] = [*join_arguments(rules or [])]
    if file is not None:
        from .rule_file import read_rules  # noqa: PLC0415

        with usage_of("--file"):
            wanted = read_rules(file)
    call = methods.replace_rules(wanted, expected_revision=expected_revision, dry_run=dry_run)
    ask(socket, call, as_json, show_change)


def remove(
    rules: _Known,
    dry_run: DryRunOption = False,
    expected_revision: ExpectedRevision = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Remove rules, all or none."""
    _change_known(methods.remove_rules, rules, dry_run, expected_revision, socket, as_json)


def enable(
    rules: _Known,
    dry_run: DryRunOption = False,
    expected_revision: ExpectedRevision = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Enable disabled rules, all or none."""
    _change_known(methods.enable_rules, rules, dry_run, expected_revision, socket, as_json)


def disable(
    rules: _Known,
    dry_run: DryRunOption = False,
    expected_revision: ExpectedRevision = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Disable rules, all or none.

    They stop relaying and keep their counters and memberships.
    """
    _change_known(methods.disable_rules, rules, dry_run, expected_revision, socket, as_json)


def list_rules(
    rules: SomeRules = None,
    sort: Annotated[
        ListOrder | None, typer.Option(help="The order; by default the oldest first.")
    ] = None,
    only_problems: OnlyProblems = False,
    no_pager: NoPager = False,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """List the rules and the state of each, one line for a rule where there is no terminal."""
    with connect(socket) as client:
        listed = client.request(methods.rules(known_rules(rules)))
    chosen = arranged(listed.rules, sort, only_problems=only_problems, now=listed.time)
    shown = replace_fields(listed, rules=chosen)
    if as_json:
        print(json.dumps(shown.as_dict()), flush=True)
        return
    with paged(not no_pager):
        _show_rules(shown, "no rule has a problem" if listed.rules else NO_RULES)


def _change_known(
    make: Callable[..., Call[ChangeResult]],
    rules: list[str],
    dry_run: bool,
    expected_revision: int | None,
    socket: str | None,
    as_json: bool,
) -> None:
    call = make(known_rules(rules), expected_revision=expected_revision, dry_run=dry_run)
    ask(socket, call, as_json, show_change)


def _show_rules(listed: RuleList, without: str) -> None:
    if not listed.rules:
        print(without)
        return
    show_table(
        ("id", "name", "rule", "egress", "relayed by", "from", "enabled", "state"),
        (
            (
                rule.id,
                rule.name or "-",
                rule.rule,
                _ways(rule),
                relayer(rule),
                rule.origin,
                "yes" if rule.enabled else "no",
                rule.state,
            )
            for rule in listed
        ),
        [state_colour(rule, is_losing=loses(rule, listed.time)) for rule in listed],
    )
    for rule in listed:
        if rule.offload_detail is not None:
            name = rule.name or rule.id
            print(printable(f"{name} is not relayed by the kernel: {rule.offload_detail}"))


def _ways(rule: RuleInfo) -> str:
    """How the copies of each output leave, or once if all do alike."""
    ways = [
        f"{output.way} ({output.way_reason})" if output.way_reason else output.way
        for output in rule.outputs
    ]
    return ", ".join(ways[:1] if len(set(ways)) == 1 else ways)


_RULE = "239.1.1.1%eth0:5001,name=feed-a to 239.2.0.1%eth1:6001"
add_command(
    app,
    "add",
    add,
    rules=("input", "output"),
    examples=(
        f"mcr rule add {_RULE}",
        f"mcr rule add --dry-run {_RULE}",
        "mcr rule add --sdp channel.sdp --interface eth0 --to %eth1",
    ),
)
add_command(
    app,
    "replace",
    replace,
    rules=("input", "output"),
    examples=("mcr rule replace --file rules.toml", f"mcr rule replace {_RULE}"),
)
add_command(
    app,
    "edit",
    edit,
    command=EditCommand,
    rules=("output",),
    examples=(
        "mcr rule edit feed-a --set-output 2 ttl=16",
        "mcr rule edit feed-a --add-output 192.0.2.7:7000 --remove-output 3",
        "mcr rule edit feed-a --set expect=2s,name=feed-b",
    ),
)
add_command(app, "remove", remove, examples=("mcr rule remove feed-a",))
add_command(app, "enable", enable, examples=("mcr rule enable feed-a",))
add_command(app, "disable", disable, examples=("mcr rule disable feed-a feed-b",))
add_command(
    app,
    "list",
    list_rules,
    examples=("mcr rule list", "mcr rule list 'A0*' --only-problems", "mcr rule list --json"),
)
