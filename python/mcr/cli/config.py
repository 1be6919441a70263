"""The commands `mcr config ...`, and `mcr plan`, `apply` and `reload`."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ..client import methods
from ..config import schema as config_schema
from ..config.forms import wanted_forms
from ..config.writer import WrittenRule, write_toml
from ..protocol.results import ConfigurationResult, RuleDifference, RuleForm
from ..protocol.text import printable
from ..rules import Rule
from ..rules.model import counted
from ..rules.objects import rule_from_object
from ..text_file import keep_old, replace_text
from .config_file import read_configuration
from .help import CommandGroup, add_command, epilog_of
from .options import AnswerAsJson, SocketOption
from .progress import progress
from .remote import WAITING, ask, connect

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=False,
    help="Check, show, save or describe configurations.\n\nmcr plan and mcr apply compare one with"
    " the daemon.",
    epilog=epilog_of(["mcr config check mcr.toml"]),
)

_File = Annotated[
    str,
    typer.Argument(metavar="FILE", help="A configuration in TOML or JSON; - is standard input."),
]
_Prune = Annotated[
    bool,
    typer.Option(
        "--prune",
        help="Also remove rules that were added at run time, and enable what was disabled then.",
    ),
]


def check(file: _File) -> None:
    """Check a configuration without a daemon, and tell every mistake.

    Host names are not resolved, and what this host lacks now may come later.
    """
    from .configuration_check import check_configuration  # noqa: PLC0415 -- slow to load

    configuration = read_configuration(file)
    for warning in check_configuration(configuration):
        print(f"warning: {printable(warning)}", file=sys.stderr)
    print(f"{file}: {counted(len(configuration.rules))}, no mistake", flush=True)


def plan(
    file: _File, prune: _Prune = False, socket: SocketOption = None, as_json: AnswerAsJson = False
) -> None:
    """Show what a configuration would change in the daemon; change nothing."""
    configuration = read_configuration(file)
    shaping = configuration.shaping
    call = methods.apply_rules(
        wanted_forms(configuration), prune=prune, shaping=shaping, dry_run=True
    )
    with configuration.placed():
        ask(socket, call, as_json, _show)


def apply(
    file: _File,
    prune: _Prune = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the change, as mcr plan does; change nothing.")
    ] = False,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Make the rules of the daemon those of a configuration, in one transaction.

    Shows the change and asks first; refused if the rules have changed meanwhile. Rules that stay
    the same are not touched, and those that were added at run time stay.
    """
    if not (yes or dry_run or sys.stdin.isatty()):
        raise typer.BadParameter(
            "is needed without a terminal to ask on; add it, or --dry-run", param_hint="'--yes'"
        )
    configuration = read_configuration(file)
    wanted, shaping = wanted_forms(configuration), configuration.shaping
    expected: int | None = None
    with configuration.placed():
        if not yes and not dry_run:
            with connect(socket) as client, progress(WAITING):
                change = client.apply_rules(wanted, prune=prune, shaping=shaping, dry_run=True)
            _show(change)
            if change.is_empty or not typer.confirm("Apply?", err=True):
                return
            expected = change.revision
        call = methods.apply_rules(
            wanted,
            prune=prune,
            shaping=shaping,
            expected_revision=expected,
            dry_run=dry_run,
        )
        ask(socket, call, as_json, _show if expected is None else _show_revision)
    _warn_of_other(file, socket)


def reload(
    prune: _Prune = False, socket: SocketOption = None, as_json: AnswerAsJson = False
) -> None:
    """Have the daemon read its configuration again, and wait for the result.

    If the configuration is refused, nothing has changed, and the exit code is not 0.
    """
    ask(socket, methods.reload(prune=prune), as_json, _show)


def show(socket: SocketOption = None) -> None:
    """Print what the daemon runs with, as a configuration."""
    print(_text_of_daemon(socket), end="", flush=True)


def save(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="What it has is kept as FILE.old; the new one has its mode and owner.",
        ),
    ],
    socket: SocketOption = None,
) -> None:
    """Write what the daemon runs with into a file, as a configuration.

    Comments, includes and lists of a file that was written by hand are in FILE.old then.
    """
    path, text = Path(file), _text_of_daemon(socket)
    before = path.read_bytes() if path.exists() else None
    done = "unchanged"
    if before != text.encode():
        done = "written" if before is None else f"replaced; what it had is in {keep_old(path)}"
        replace_text(path, text)
    print(f"{file}: {done}", flush=True)


def schema() -> None:
    """Print the JSON Schema of configurations, for editors."""
    print(config_schema.text(), end="", flush=True)


def _text_of_daemon(socket: str | None) -> str:
    with connect(socket) as client, progress(WAITING):
        configuration, listed = client.configuration(), client.rules()
        shaping = client.shaping().as_shaping()
    with progress(f"writing {counted(len(listed))}"):
        rules = [
            WrittenRule(
                Rule.parse(info.rule) if info.object is None else rule_from_object(info.object),
                info.enabled,
            )
            for info in listed
        ]
        return write_toml(configuration.settings, rules, shaping=shaping)


def _warn_of_other(file: str, socket: str | None) -> None:
    with connect(socket) as client:
        own = client.configuration().path
    if own is not None and (file == "-" or os.path.realpath(file) != os.path.realpath(own)):
        print(f"warning: at its next start or reload the daemon uses {own}", file=sys.stderr)


def _show(change: ConfigurationResult) -> None:
    for warning in change.warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    _show_each("+", change.added)
    _show_each("~", change.changed)
    _show_each("-", change.removed)
    counts = {"added": change.added, "changed": change.changed, "removed": change.removed}
    told = [f"{len(each)} {verb}" for verb, each in counts.items()]
    print(f"{', '.join(told)}, {change.unchanged} unchanged")
    for noun, names in (("class", change.classes), ("interface", change.interfaces)):
        for each in names:
            print(printable(f"{noun} {each}: changed"))
    _show_staying("changed at run time, stays so", change.overruled, change.staying)
    _show_staying("added at run time, stays", change.beside, change.staying)
    _show_revision(change)


def _show_revision(change: ConfigurationResult) -> None:
    trial = " (nothing has changed)" if change.dry_run else ""
    print(f"revision {change.revision}{trial}", flush=True)


def _show_each(sign: str, differences: Iterable[RuleDifference]) -> None:
    for each in differences:
        lines = [_form(form) for form in (each.before, each.after) if form is not None]
        print(printable(f"{sign} {lines[0]}"))
        if len(lines) > 1:
            print(printable(f"    becomes {lines[1]}"))


def _form(form: RuleForm) -> str:
    return form.rule if form.enabled else f"{form.rule} (disabled)"


def _show_staying(why: str, ids: Iterable[str], rules: Iterable[RuleDifference]) -> None:
    known = {each.id: _form(each.after) for each in rules if each.after is not None}
    for each in ids:  # an older daemon sends nothing but the ids
        print(printable(f"= {known.get(each, each)}: {why}"))


for _name, _function, _example in (
    ("check", check, "mcr config check mcr.toml"),
    ("show", show, "mcr config show"),
    ("save", save, "mcr config save mcr.toml"),
    ("schema", schema, "mcr config schema"),
):
    add_command(app, _name, _function, examples=(_example,))
