"""The privileged parent of the daemon: it starts control and workers, and starts them again.

Owns processes, the socket's path, the kept rule set and the rights. It reads nothing that a client
or a frame contains: control and workers, which have no rights, do that. Sockets are opened by the
native broker.
"""

import os
import sys
from typing import NoReturn

from ..._native import try_io_uring
from ..settings import DaemonSettings, Ingress
from .argv import supervisor_command
from .capabilities import (
    choose_ingress,
    fill_standard_descriptors,
    raise_descriptor_limit,
    unreachable,
)
from .errors import StartError
from .listener import Listener
from .log import StderrLog
from .native import NativeTools, native_tools
from .supervisor import Supervisor

__all__ = [
    "DaemonSettings",
    "Ingress",
    "NativeTools",
    "StartError",
    "become_supervisor",
    "choose_ingress",
    "supervise",
]


def become_supervisor(setup: DaemonSettings) -> NoReturn:
    """Run the daemon in place of the running program, with the same process id.

    What has rights for years so holds none of the libraries that read a command line.

    Args:
        setup: what the user asked for.

    Raises:
        StartError: this user cannot run the interpreter a second time.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    command = supervisor_command(setup)
    try:
        os.execv(command[0], command)
    except OSError as error:
        raise StartError(f"cannot run {command[0]}: {error.strerror}") from error


def supervise(setup: DaemonSettings, tools: NativeTools | None = None) -> bool:
    """Run the daemon until a signal or a client ends it; return whether it drained in order.

    Args:
        setup: what the user asked for.
        tools: what the native module does; its own unless given.

    Raises:
        StartError: a child cannot be started, or the socket or a file cannot be had.
        RightsError: the kernel refuses io_uring (io_uring_setup(2)).
    """
    fill_standard_descriptors()
    try_io_uring()
    used = native_tools() if tools is None else tools
    log = StderrLog(setup.log_level)
    raise_descriptor_limit()
    closed = unreachable(setup, used.shrink)
    if closed is not None:
        log.log("info", f"keeping CAP_DAC_OVERRIDE: without it root cannot use {closed}")
    used.shrink(closed is not None)
    group = os.getegid() if setup.group is None else setup.group
    private = os.geteuid() != 0
    with Listener(setup.socket, group, private) as listener:
        return Supervisor(setup, used, listener, group, log).run()
