"""The command `mcr completion`: scripts by which shells complete commands, options and names.

The scripts have the commands and options of this version. Names of rules are asked of the daemon
when they are completed, and interfaces are read from sysfs.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Literal

import typer

from ..client import methods
from ..errors import McrError
from .command_tree import CommandText, OptionText, command_texts
from .options import SocketOption
from .remote import connect

Shell = Literal["bash", "zsh", "fish"]
_INTERFACES = ("--interface", "-i")
_FILES = ("FILE", "PATH")


def completion(
    shell: Annotated[Shell | None, typer.Argument(help="Print the script of this shell.")] = None,
    rules: Annotated[
        bool, typer.Option("--rules", help="Print the names and ids of the daemon's rules.")
    ] = False,
    socket: SocketOption = None,
) -> None:
    """Print the script by which a shell completes commands, options, rules and interfaces.

    A shell finds it in /usr/share/bash-completion/completions/mcr, in a directory of fpath as
    _mcr, or in ~/.config/fish/completions/mcr.fish.
    """
    if (shell is None) != rules:
        raise typer.BadParameter("give a shell, or --rules", param_hint="'SHELL'")
    if shell is None:
        _print_rules(socket)
        return
    from . import application  # noqa: PLC0415 -- it loads this module

    print(script_of(shell, command_texts(application())), end="")


def script_of(shell: Shell, commands: list[CommandText]) -> str:
    """The script by which a shell completes commands."""
    return _SCRIPTS[shell](commands)


def _print_rules(socket: str | None) -> None:
    with suppress(McrError, OSError), connect(socket) as client:  # no daemon: nothing to complete
        for rule in client.request(methods.rules()):
            print(rule.name or rule.id)


def _bash(commands: Iterable[CommandText]) -> str:
    known = list(commands)
    return f"""# bash completion for mcr: in ~/.local/share/bash-completion/completions/mcr
_mcr() {{
    local current=$2 previous=$3 command=mcr word words= interfaces
    interfaces=$(basename -a /sys/class/net/*/)
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$command $word" in
        {_paths(known, "|")}) command="$command $word" ;;
        esac
    done
    case "$command $previous" in
{_lines(_valued(known), lambda case, words: f'    {case}) words="{words}" ;;')}
    *)
        case "$command" in
{_lines(_commands(known), lambda case, words: f'        {case}) words="{words}" ;;')}
        esac
        case "$command" in
        {_rule_paths(known, "|")}) [[ $current == -* ]] || words="$(mcr completion --rules)" ;;
        esac
        if [[ $current == *%* ]]; then
            COMPREPLY=($(compgen -P "${{current%%%*}}%" -W "$interfaces" -- "${{current#*%}}"))
            return
        fi
        ;;
    esac
    if [[ $words == :interfaces ]]; then words=$interfaces; fi
    if [[ $words == :files ]]; then
        compopt -o filenames
        COMPREPLY=($(compgen -f -- "$current"))
        return
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -F _mcr mcr
"""


def _zsh(commands: Iterable[CommandText]) -> str:
    known = list(commands)
    return f"""#compdef mcr
# zsh completion for mcr: as _mcr in a directory of fpath
_mcr() {{
    local previous=$words[CURRENT-1] command=mcr word wanted= current=$words[CURRENT]
    local -a interfaces=(/sys/class/net/*(/N:t) /sys/class/net/*(@N:t))
    for word in $words[2,CURRENT-1]; do
        case "$command $word" in
        ({_paths(known, "|")}) command="$command $word" ;;
        esac
    done
    case "$command $previous" in
{_lines(_valued(known), lambda case, words: f'    ({case}) wanted="{words}" ;;')}
    (*)
        case "$command" in
{_lines(_commands(known), lambda case, words: f'        ({case}) wanted="{words}" ;;')}
        esac
        case "$command" in
        ({_rule_paths(known, "|")}) [[ $current == -* ]] || wanted="$(mcr completion --rules)" ;;
        esac
        if compset -P '*%'; then compadd -a interfaces; return; fi
        ;;
    esac
    case "$wanted" in
    (:interfaces) compadd -a interfaces ;;
    (:files) _files ;;
    (*) compadd -- ${{=wanted}} ;;
    esac
}}
if [[ $funcstack[1] == _mcr ]]; then _mcr "$@"; else compdef _mcr mcr; fi
"""


def _fish(commands: Iterable[CommandText]) -> str:
    lines = [
        "# fish completion for mcr: in ~/.config/fish/completions/mcr.fish",
        "function __mcr_in",
        "    set -l words (commandline -opc | string match -v -- '-*')",
        '    test "$words[2..(math 1 + (count $argv))]" = "$argv"',
        '    and not contains -- "$words[(math 2 + (count $argv))]" $__mcr_groups',
        "end",
        "function __mcr_interfaces",
        "    path basename /sys/class/net/*/",
        "end",
        "complete -c mcr -f",
    ]
    for command in commands:
        words = " ".join(command.words)
        when = f"-n '__mcr_in {words}'" if words else "-n __fish_use_subcommand"
        texts = {each.words: each.summary for each in commands}
        lines += [
            f"complete -c mcr {when} -a {name} -d {_quoted(texts[(*command.words, name)])}"
            for name in command.subcommands
        ]
        if command.takes_rules:
            lines.append(f"complete -c mcr {when} -a '(mcr completion --rules)'")
        for option in command.options:
            flags = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                for name in option.names
            )
            lines.append(
                f"complete -c mcr {when} {flags}{_fish_value(option)} -d {_quoted(option.text)}"
            )
    return "\n".join(lines) + "\n"


def _fish_value(option: OptionText) -> str:
    if not option.takes_value:
        return ""
    wanted = _wanted(option)
    if wanted == ":files":
        return " -r -F"
    return f" -x -a '{'(__mcr_interfaces)' if wanted == ':interfaces' else wanted}'"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _paths(commands: Iterable[CommandText], between: str) -> str:
    return between.join(f'"{_path(each)}"' for each in commands if each.words)


def _rule_paths(commands: Iterable[CommandText], between: str) -> str:
    return between.join(f'"{_path(each)}"' for each in commands if each.takes_rules)


def _path(command: CommandText) -> str:
    return " ".join(("mcr", *command.words))


def _commands(commands: Iterable[CommandText]) -> Mapping[str, str]:
    """By command, its subcommands and options."""
    return {
        f'"{_path(each)}"': " ".join(
            (*each.subcommands, *(name for option in each.options for name in option.names))
        )
        for each in commands
    }


def _valued(commands: Iterable[CommandText]) -> Mapping[str, str]:
    """By command and option, what completes the option's value."""
    return {
        "|".join(f'"{_path(each)} {name}"' for name in option.names): _wanted(option)
        for each in commands
        for option in each.options
        if option.takes_value
    }


def _wanted(option: OptionText) -> str:
    """The words that an option accepts, `:interfaces`, `:files`, or nothing that is known."""
    if not set(option.names).isdisjoint(_INTERFACES):
        return ":interfaces"
    if option.shown.endswith(_FILES):
        return ":files"
    return " ".join(option.choices)


def _lines(cases: Mapping[str, str], line: Callable[[str, str], str]) -> str:
    return "\n".join(line(case, words) for case, words in cases.items())


_SCRIPTS: Mapping[Shell, Callable[[list[CommandText]], str]] = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
}
