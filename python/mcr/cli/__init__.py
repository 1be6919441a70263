"""The command `mcr`: reads the command line, runs one command and returns an exit code.

The code is 0 for success, 1 for a failure at run time and 2 for wrong usage. Errors go to standard
error, one line for each problem, without a traceback; a traceback is a defect of mcr.
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
from .help import CommandGroup, add_command, epilog_of
from .receive import receive as receive_command
from .relay import relay as relay_command
from .rule import app as rule_commands
from .send import send as send_command
from .serve import serve as serve_command
from .signals import leave_unread

FAILED = 1
WRONG_USAGE = 2

_RELAY, _DAEMON, _RULES, _DIAGNOSE = "Relay and test", "Daemon", "Rules of the daemon", "Diagnose"

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
add_command(
    app,
    "relay",
    relay_command,
    group=_RELAY,
    rules=("input", "output"),
    examples=(
        "mcr relay 239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001 192.0.2.7:7000,ttl=8",
        "mcr relay '239.1.1.1%eth0:5001 to 192.0.2.7:7000' \\\n"
        "            '239.1.1.2%eth0:5002 to 192.0.2.8:7000' --workers 2 --duration 60",
        "mcr relay 10.0.0.5@232.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001 --json",
    ),
)
add_command(
    app,
    "send",
    send_command,
    group=_RELAY,
    examples=(
        "mcr send 239.1.1.1%eth0:5001,ttl=8 --rate 5000 --duration 10",
        "mcr send 192.0.2.7:7000 --size 200 --count 100000 --rate max",
    ),
)
add_command(
    app,
    "receive",
    receive_command,
    group=_RELAY,
    examples=(
        "mcr receive 239.1.1.1%eth0:5001 --duration 10",
        "mcr receive 10.0.0.5@232.1.1.1%eth0:5001 --count 100000 --json",
    ),
)
add_command(
    app,
    "serve",
    serve_command,
    group=_DAEMON,
    examples=(
        "mcr serve --socket mcr.sock",
        "mcr serve --user nobody --config rules.toml --state rules.json --workers 2",
    ),
)
add_command(app, "ping", observe.ping, group=_DAEMON, examples=("mcr ping",))
add_command(
    app,
    "log-level",
    observe.log_level,
    group=_DAEMON,
    examples=(
        "mcr log-level",
        "mcr log-level warning",
        "mcr log-level debug --facility rules",
        "mcr log-level default --facility rules",
    ),
)
add_command(app, "version", observe.version, group=_DAEMON, examples=("mcr version",))
add_command(app, "shutdown", observe.shutdown, group=_DAEMON, examples=("mcr shutdown",))
app.add_typer(rule_commands, name="rule", rich_help_panel=_RULES)
add_command(
    app,
    "stats",
    observe.stats,
    group=_RULES,
    examples=("mcr stats", "mcr stats feed-a --watch", "mcr stats --json"),
)
add_command(
    app,
    "doctor",
    doctor_command,
    group=_DIAGNOSE,
    rules=("input", "output"),
    examples=(
        "mcr doctor",
        "mcr doctor 239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001",
        "mcr doctor --interface eth0 --fix",
    ),
)
add_command(
    app,
    "events",
    observe.events,
    group=_DIAGNOSE,
    examples=("mcr events", "mcr events --after 0 --kind rule --kind worker"),
)
add_command(app, "workers", observe.workers, group=_DIAGNOSE, examples=("mcr workers",))
add_command(app, "interfaces", observe.interfaces, group=_DIAGNOSE, examples=("mcr interfaces",))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Args:
        argv: the arguments without the program's name; by default those of the process.
    """
    given = sys.argv[1:] if argv is None else argv
    # The parser would read an argument "->" as an option; in a rule both mean the same.
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
    except (McrError, OSError) as error:
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
    with suppress(OSError):  # no reader
        for problem in problems:
            print(f"mcr: {problem}", file=sys.stderr)
    return code


def _usage(error: typer.TyperException) -> str:
    """The error of the command line's parser, with the help that explains the command."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "mcr"
    text = error.format_message().replace("Value error, ", "").rstrip(".")  # pydantic's prefix
    return f"{text}{'' if text.endswith('?') else ';'} see {command} --help"


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__
