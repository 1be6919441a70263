"""The supervisor: the privileged parent process that starts and restarts control and workers.

Owns the child processes, the socket path, the rule set snapshot and the privileges. It parses no
input from clients or the network: control and workers do that, without privileges. The native
broker opens the sockets.
"""

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import NoReturn

from ...protocol.log_spec import LogSpec
from ..journal import Journal
from ..settings import DaemonSettings
from .argv import supervisor_command
from .capabilities import (
    choose_ingress,
    choose_offload,
    fill_standard_descriptors,
    find_unreachable_path,
    raise_descriptor_limit,
)
from .errors import StartError
from .handover.inheritance import Inheritance, InheritedListener, request_inheritance
from .handover.predecessor import daemon_needs
from .listener import Listener
from .log import StderrLog
from .native import NativeTools, native_tools
from .supervisor import Supervisor

__all__ = [
    "DaemonSettings",
    "NativeTools",
    "StartError",
    "become_supervisor",
    "choose_ingress",
    "choose_offload",
    "supervise",
]


def become_supervisor(settings: DaemonSettings) -> NoReturn:
    """Replace this program by the supervisor, under the same process id (execve(2)).

    The process that keeps privileges for years thus holds none of the command-line libraries.

    Args:
        settings: the user's choices.

    Raises:
        StartError: this user cannot run the interpreter again.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    own_command = (sys.executable, *sys.orig_argv[1:])
    command = supervisor_command(replace(settings, command=own_command))
    try:
        os.execv(command[0], command)
    except OSError as error:
        raise StartError(f"cannot run {command[0]}: {error.strerror}") from error


def supervise(settings: DaemonSettings, tools: NativeTools | None = None) -> bool:
    """Run the daemon until a signal or a client ends it; return whether it shut down cleanly.

    Args:
        settings: the user's choices.
        tools: the native functions; None takes those of the installed package.

    Raises:
        StartError: a child cannot be started, or the socket or a file cannot be opened.
    """
    fill_standard_descriptors()
    tools = native_tools() if tools is None else tools
    journal = Journal.connect(settings.log_format, 2)
    levels = LogSpec.parse(settings.log_level)
    log = StderrLog(levels, log_format=settings.log_format, journal=journal)
    raise_descriptor_limit()
    for name, feature in () if settings.takeover else tools.restore_features():
        log.log("info", f"turned {feature} of {name} on again: an mcr that was killed left it off")
    unreachable = find_unreachable_path(settings, tools.shrink)
    if unreachable is not None:
        text = f"keeping CAP_DAC_OVERRIDE: without it root cannot use {unreachable}"
        log.log("info", text, "security")
    tools.shrink(unreachable is not None, settings.offload != "off")
    group = os.getegid() if settings.group is None else settings.group
    with ExitStack() as stack:
        inheritance = _inherit(settings, tools) if settings.takeover else None
        listener, observers = _listen(stack, settings, group, inheritance)
        supervisor = Supervisor(
            settings, tools, listener, group, log, observers=observers, inheritance=inheritance
        )
        return supervisor.run()


def _inherit(settings: DaemonSettings, tools: NativeTools) -> Inheritance:
    """Get what a running daemon hands over."""
    if settings.offload != "off":
        raise StartError("--takeover: --offload cannot be taken over; restart the daemon instead")
    return request_inheritance(settings.socket, daemon_needs(settings, tools))


def _listen(
    stack: ExitStack, settings: DaemonSettings, group: int, inheritance: Inheritance | None
) -> tuple[Listener, Listener | None]:
    """The listener for clients, and that for observers, opened or inherited."""
    private = os.geteuid() != 0 and settings.observers is None
    inherited = None if inheritance is None else inheritance.listener
    given = None if inheritance is None else inheritance.observers
    path, option = settings.observers_socket, "--observers-socket"
    try:
        if inherited is None:
            listener: Listener = Listener(settings.socket, group, private)
        else:
            listener = InheritedListener(settings.socket, inherited)
        stack.enter_context(listener)
        if settings.observers is None or path is None:
            return listener, None
        if given is None:
            observers: Listener = Listener(path, settings.observers, private, option)
        else:
            observers = InheritedListener(path, given)
        return listener, stack.enter_context(observers)
    except OSError as error:
        raise StartError(f"cannot take over the socket: {error.strerror}") from error
