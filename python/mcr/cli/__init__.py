"""The command `mcr`: reads the command line, runs one command, answers with an exit code.

0 is success, 1 failed at run time, 2 wrong usage. Whatever is wrong is said on standard error,
one line for each thing, without a traceback; a traceback is a defect of mcr.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Annotated

import typer

from ..errors import InterfaceError, McrError, Problem, RuleError
from . import observe
from .doctor import doctor as doctor_command
from .privileges import PrivilegeError
from .receive import receive as receive_command
from .relay import relay as relay_command
from .rule import app as rule_commands
from .send import send as send_command
from .serve import serve as serve_command
from .signals import leave_unread

FAILED = 1
WRONG_USAGE = 2

app = typer.Typer(
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Relay multicast streams: datagrams of a group go on to any number of outputs.",
)
app.command("relay", short_help="Relay in the foreground.")(relay_command)
app.command("serve", short_help="Run the daemon, which clients give rules to.")(serve_command)
app.command("doctor", short_help="Find what is in a relay's way.")(doctor_command)
app.command("send", short_help="Send a numbered test stream.")(send_command)
app.command("receive", short_help="Receive it: loss, order, latency.")(receive_command)
app.add_typer(rule_commands, name="rule", short_help="The rules of a daemon: add, remove, list.")
app.command("stats", short_help="What a daemon received, sent and lost.")(observe.stats)
app.command("workers", short_help="Its worker processes.")(observe.workers)
app.command("interfaces", short_help="The interfaces that it sees.")(observe.interfaces)
app.command("events", short_help="What happens in it.")(observe.events)
app.command("log-level", short_help="What it logs.")(observe.log_level)
app.command("ping", short_help="Whether it is well.")(observe.ping)
app.command("version", short_help="This version, and the daemon's.")(observe.version)
app.command("shutdown", short_help="End it.")(observe.shutdown)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Args:
        argv: the arguments without the program's name; those of the process unless given.
    """
    given = sys.argv[1:] if argv is None else argv
    # An argument "->" would be taken for an option; the rule text reads both alike.
    arguments = ["to" if argument == "->" else argument for argument in given]
    try:
        code = app(args=arguments, prog_name="mcr", standalone_mode=False)
    except typer.TyperException as error:
        return _refuse([_usage(error)], WRONG_USAGE)
    except RuleError as error:
        return _refuse(error.problems, WRONG_USAGE)
    except InterfaceError as error:
        return _refuse([_sentence(error)], WRONG_USAGE)
    except BrokenPipeError:
        leave_unread()
        return FAILED
    except (McrError, PrivilegeError, OSError) as error:
        return _refuse([_sentence(error)], FAILED)
    except KeyboardInterrupt:
        leave_unread()
        return 130
    return code if isinstance(code, int) else 0


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"mcr {version('mcr-relay')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def _refuse(problems: Sequence[Problem | str], code: int) -> int:
    with suppress(OSError):  # nobody reads it
        for problem in problems:
            print(f"mcr: {problem}", file=sys.stderr)
    return code


def _usage(error: typer.TyperException) -> str:
    """What the parser of the command line says, and the help of the very command."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "mcr"
    text = error.format_message().replace("Value error, ", "").rstrip(".")  # pydantic's prefix
    return f"{text}{'' if text.endswith('?') else ';'} see {command} --help"


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__
