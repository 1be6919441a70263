"""The command `mcr install-service`."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..service.files import service_files, unit_text
from ..service.installation import (
    installation_steps,
    installed_program,
    removal_steps,
    run_steps,
    systemd_version,
)
from .command_tree import command_texts
from .completion import script_of

_AFTER = """\
next: systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload
      systemctl enable --now mcr"""
_AFTER_REMOVAL = "next: systemctl daemon-reload"


def install_service(
    show: Annotated[
        bool, typer.Option("--print", help="Print the unit of systemd; write nothing.")
    ] = False,
    prefix: Annotated[
        Path, typer.Option(metavar="DIR", help="Write below this directory, as packages do.")
    ] = Path("/"),
    program: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The command mcr on the host; by default this one."),
    ] = None,
    uninstall: Annotated[
        bool, typer.Option("--uninstall", help="Remove the files again, but the configuration.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be written or removed.")
    ] = False,
) -> None:
    """Install the daemon as a service of systemd.

    Writes a unit, the user mcr, directories, a commented configuration and completion for bash, zsh
    and fish. A configuration that exists is kept. Starts nothing.
    """
    if program is not None and not program.is_absolute():
        raise typer.BadParameter("must be an absolute path", param_hint="'--program'")
    command = installed_program(_own_path()) if program is None and not uninstall else program
    started = command or Path("/opt/mcr/bin/mcr")
    # A package is for hosts with any version.
    systemd = systemd_version() if prefix == Path("/") else None
    if show:
        print(unit_text(started, systemd), end="")
        return
    files = service_files(started, _completions(), systemd)
    steps = removal_steps(files, prefix) if uninstall else installation_steps(files, prefix)
    for step in steps if dry_run else run_steps(steps):
        print(step, flush=True)
    if not dry_run:
        print(_AFTER_REMOVAL if uninstall else _AFTER, flush=True)


def _own_path() -> str:
    return shutil.which(sys.argv[0]) or sys.argv[0]


def _completions() -> dict[Path, str]:
    from . import application  # noqa: PLC0415 -- it loads this module

    commands, share = command_texts(application()), Path("/usr/share")
    return {
        share / "bash-completion/completions/mcr": script_of("bash", commands),
        share / "zsh/vendor-completions/_mcr": script_of("zsh", commands),
        share / "fish/vendor_completions.d/mcr.fish": script_of("fish", commands),
    }
