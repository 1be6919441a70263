"""The command `mcr`: reads the command line, runs one command and returns an exit code.

The code is 0 for success, 1 for a failure at run time and 2 for wrong usage. Errors go to standard
error, one line for each problem, without a traceback; a traceback is a defect of mcr.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Annotated, NamedTuple

import typer

from ..errors import InterfaceError, McrError, Problem, RuleError
from ..rules.grammar import Noun
from .help import CommandGroup, add_command, epilog_of
from .signals import leave_unread

FAILED = 1
WRONG_USAGE = 2


class CommandEntry(NamedTuple):
    """A command as the list of commands has it."""

    target: str
    """Its module in this package, and there the function or the application."""
    group: str
    """The heading under which `mcr --help` lists it."""
    examples: tuple[str, ...] = ()
    rules: tuple[Noun, ...] = ()
    """The endpoints of rules that its arguments have."""
    usage_code: int = WRONG_USAGE
    """The exit code for wrong usage."""


_RELAY, _DAEMON, _RULES, _DIAGNOSE = "Relay and test", "Daemon", "Rules of the daemon", "Diagnose"
_SHELL = "Shell and manual"

COMMANDS: Mapping[str, CommandEntry] = {
    "relay": CommandEntry(
        "relay:relay",
        _RELAY,
        (
            "mcr relay 239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001 192.0.2.7:7000,ttl=8",
            "mcr relay '239.1.1.1%eth0:5001 to 192.0.2.7:7000' \\\n"
            "            '239.1.1.2%eth0:5002 to 192.0.2.8:7000' --workers 2 --duration 60",
            "mcr relay 10.0.0.5@232.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001 --json",
        ),
        rules=("input", "output"),
    ),
    "send": CommandEntry(
        "send:send",
        _RELAY,
        (
            "mcr send 239.1.1.1%eth0:5001,ttl=8 --rate 5000 --duration 10",
            "mcr send 192.0.2.7:7000 --size 200 --count 100000 --flood",
        ),
    ),
    "receive": CommandEntry(
        "receive:receive",
        _RELAY,
        (
            "mcr receive 239.1.1.1%eth0:5001 --duration 10",
            "mcr receive 10.0.0.5@232.1.1.1%eth0:5001 --count 100000 --json",
        ),
    ),
    "serve": CommandEntry(
        "serve:serve",
        _DAEMON,
        (
            "mcr serve --socket mcr.sock",
            "mcr serve --user nobody --config mcr.toml --state rules.json --workers 2",
        ),
    ),
    "config": CommandEntry("config:app", _DAEMON),
    "plan": CommandEntry("config:plan", _DAEMON, ("mcr plan mcr.toml",)),
    "apply": CommandEntry(
        "config:apply", _DAEMON, ("mcr apply mcr.toml", "mcr apply mcr.toml --prune --yes")
    ),
    "import": CommandEntry("import_:import_", _DAEMON, ("mcr import smcroute /etc/smcroute.conf",)),
    "reload": CommandEntry("config:reload", _DAEMON, ("mcr reload", "mcr reload --prune")),
    "ping": CommandEntry("observe:ping", _DAEMON, ("mcr ping",)),
    "log-level": CommandEntry(
        "observe:log_level",
        _DAEMON,
        (
            "mcr log-level",
            "mcr log-level warning",
            "mcr log-level debug --facility rules",
            "mcr log-level default --facility rules",
        ),
    ),
    "version": CommandEntry("observe:version", _DAEMON, ("mcr version",)),
    "shutdown": CommandEntry("observe:shutdown", _DAEMON, ("mcr shutdown",)),
    "rule": CommandEntry("rule:app", _RULES),
    "stats": CommandEntry(
        "stats:stats",
        _RULES,
        (
            "mcr stats",
            "mcr stats 'A0*' --watch --sort rate",
            "mcr stats --only-problems --json",
        ),
    ),
    "top": CommandEntry("top:top", _RULES, ("mcr top", "mcr top 'A0*' --sort rate")),
    "flows": CommandEntry("flows:flows", _RULES, ("mcr flows", "mcr flows feed-a --json")),
    "web": CommandEntry(
        "web:web",
        _DIAGNOSE,
        (
            "mcr web --socket /run/mcr/mcr-observers.sock",
            "mcr web --address 192.0.2.1 --token-file /etc/mcr/web.token",
        ),
    ),
    "doctor": CommandEntry(
        "doctor:doctor",
        _DIAGNOSE,
        (
            "mcr doctor",
            "mcr doctor 239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001",
            "mcr doctor --interface eth0 --fix",
        ),
        rules=("input", "output"),
    ),
    "explain": CommandEntry(
        "explain:explain",
        _DIAGNOSE,
        (
            "mcr explain 10.0.0.5:4000@239.1.1.1%eth0:5001 ttl=4 size=1200",
            "mcr explain -r capture.pcapng --interface eth0",
            "mcr explain 239.1.1.1%eth0:5001 --rule '239.1.1.1%eth0:5001 to 192.0.2.7:7000'",
        ),
    ),
    "streams": CommandEntry(
        "streams:streams",
        _DIAGNOSE,
        (
            "mcr streams %eth0 --seconds 10",
            "mcr streams %eth0 --rules --to %eth1,ttl=8",
        ),
    ),
    "trace": CommandEntry(
        "capture:trace",
        _DIAGNOSE,
        ("mcr trace feed-a", "mcr trace feed-a --sample 1/1000 --follow"),
    ),
    "capture": CommandEntry(
        "capture:capture",
        _DIAGNOSE,
        (
            "mcr capture --rule feed-a -w feed-a.pcapng --seconds 10",
            "mcr capture --reason any",
            "mcr capture --rule feed-a --output 1 --sample 1/100",
        ),
    ),
    "check": CommandEntry(
        "check:check",
        _DIAGNOSE,
        ("mcr check", "mcr check feed-a feed-b --loss-critical 0.1", "mcr check mcr.toml"),
        usage_code=3,  # UNKNOWN by the conventions for plugins of monitoring systems
    ),
    "events": CommandEntry(
        "observe:events",
        _DIAGNOSE,
        ("mcr events", "mcr events --last 20", "mcr events --after 0 --kind rule --kind worker"),
    ),
    "workers": CommandEntry("observe:workers", _DIAGNOSE, ("mcr workers",)),
    "interfaces": CommandEntry("observe:interfaces", _DIAGNOSE, ("mcr interfaces",)),
    "completion": CommandEntry(
        "completion:completion", _SHELL, ("mcr completion bash", "mcr completion fish")
    ),
    "man": CommandEntry(
        "man:man", _SHELL, ("mcr man rule edit", "mcr man --directory /usr/local/share/man/man1")
    ),
}
"""Every command by its name, in the order of the help."""


def application(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The application with some of the commands; only their modules are loaded.

    What a command does not need costs each start of it some tenths of a second.
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
    for name in names:
        entry = COMMANDS[name]
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
        app = application(arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS)
        code = app(args=arguments, prog_name="mcr", standalone_mode=False)
    except typer.TyperException as error:
        entry = COMMANDS.get(arguments[0]) if arguments else None
        return _refuse([_usage(error)], WRONG_USAGE if entry is None else entry.usage_code)
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


def _usage(error: typer.TyperException) -> str:
    """The error of the command line's parser, with the help that explains the command."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "mcr"
    text = error.format_message().replace("Value error, ", "").rstrip(".")  # pydantic's prefix
    return f"{text}{'' if text.endswith('?') else ';'} see {command} --help"


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__
