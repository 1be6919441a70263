"""The command `mcr`: reads the command line, runs one command and returns an exit code.

The code is 0 for success, 1 for a failure at run time and 2 for wrong usage. Errors go to standard
error, one line for each problem, without a traceback; a traceback is a defect of mcr.
"""

import sys
from collections.abc import Container, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Annotated

import typer

from ..errors import InterfaceError, McrError, Problem, RuleError
from .commands import COMMANDS, WRONG_USAGE
from .help import CommandGroup, add_command, epilog_of
from .signals import leave_unread
from .usage import usage_sentence

FAILED = 1


def application(loaded: Container[str] = COMMANDS) -> typer.Typer:
    """The application with all commands, of which only some can be run.

    Args:
        loaded: the commands whose modules are loaded; of the others there is just the summary. What
            a command does not need would cost each start of it some tenths of a second.
    """
    app = typer.Typer(
        cls=CommandGroup,
        add_completion=False,
        no_args_is_help=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Relay multicast streams to any number of groups and hosts, and account for every"
        " datagram.\n\nmcr COMMAND --help shows the options of a command, with examples.",
        epilog=epilog_of(["mcr relay 239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001 192.0.2.7:7000"]),
    )
    app.callback()(_options)
    for name, entry in COMMANDS.items():
        if name not in loaded:
            app.command(name, help=entry.summary, rich_help_panel=entry.group)(_stay_unloaded)
            continue
        module, _, attribute = entry.target.partition(":")
        target = getattr(import_module(f".{module}", __name__), attribute)
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=name, rich_help_panel=entry.group)
        else:
            add_command(
                app, name, target, group=entry.group, examples=entry.examples, rules=entry.rules
            )
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Args:
        argv: the arguments without the program's name; by default those of the process.
    """
    given = sys.argv[1:] if argv is None else argv
    # The parser would read an argument "->" as an option; in a rule both mean the same.
    arguments = ["to" if argument == "->" else argument for argument in given]
    try:
        # What follows the command, such as the name of a rule, may be the name of another one.
        app = application([word for word in arguments if word in COMMANDS][:1])
        code = app(args=arguments, prog_name="mcr", standalone_mode=False)
    except typer.TyperException as error:
        entry = COMMANDS.get(arguments[0]) if arguments else None
        return _refuse([usage_sentence(error)], WRONG_USAGE if entry is None else entry.usage_code)
    except RuleError as error:
        return _refuse(error.problems, WRONG_USAGE)
    except InterfaceError as error:
        return _refuse([_sentence(error)], WRONG_USAGE)
    except BrokenPipeError:
        leave_unread()
        return FAILED
    except (McrError, OSError) as error:
        return _refuse([_sentence(error)], FAILED)
    except KeyboardInterrupt:
        leave_unread()
        return 130
    return code if isinstance(code, int) else 0


def _stay_unloaded() -> None:
    """Stand for a command that is not on the command line."""


def _show_version(wanted: bool) -> None:
    if wanted:
        metadata = import_module("importlib.metadata")  # slow to load
        print(f"mcr {metadata.version('mcr-relay')}")
        raise typer.Exit


def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def _refuse(problems: Sequence[Problem | str], code: int) -> int:
    with suppress(OSError):  # no reader
        for problem in problems:
            print(f"mcr: {problem}", file=sys.stderr)
    return code


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__
