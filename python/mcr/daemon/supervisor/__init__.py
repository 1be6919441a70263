"""The supervisor: the privileged parent process that starts and restarts control and workers.

Owns the child processes, the socket path, the rule set snapshot and the privileges. It parses no
input from clients or the network: control and workers do that, without privileges. The native
broker opens the sockets.
"""

import os
import sys
from contextlib import ExitStack
from typing import NoReturn

from ..._native import try_io_uring
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
    command = supervisor_command(settings)
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
        RightsError: the kernel refuses io_uring (io_uring_setup(2)).
    """
    fill_standard_descriptors()
    try_io_uring()
    tools = native_tools() if tools is None else tools
    journal = Journal.connect(settings.log_format, 2)
    levels = LogSpec.parse(settings.log_level)
    log = StderrLog(levels, log_format=settings.log_format, journal=journal)
    raise_descriptor_limit()
    for name, feature in tools.restore_features():
        log.log("info", f"turned {feature} of {name} on again: an mcr that was killed left it off")
    unreachable = find_unreachable_path(settings, tools.shrink)
    if unreachable is not None:
        text = f"keeping CAP_DAC_OVERRIDE: without it root cannot use {unreachable}"
        log.log("info", text, "security")
    tools.shrink(unreachable is not None, settings.offload != "off")
    group = os.getegid() if settings.group is None else settings.group
    private = os.geteuid() != 0 and settings.observers is None
    with ExitStack() as stack:
        listener = stack.enter_context(Listener(settings.socket, group, private))
        observers = None
        if settings.observers is not None and settings.observers_socket is not None:
            path, option = settings.observers_socket, "--observers-socket"
            observers = stack.enter_context(Listener(path, settings.observers, private, option))
        return Supervisor(settings, tools, listener, group, log, observers=observers).run()
