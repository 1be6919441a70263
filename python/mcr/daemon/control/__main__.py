"""`python -m mcr.daemon.control ARGUMENTS`: the control process; only the supervisor starts it."""

import asyncio
import os
import signal
import sys

from pydantic import ValidationError

from ..._native import set_process_title
from ...errors import McrError
from ..journal import Journal
from .app import ControlApp
from .arguments import ControlArguments
from .sandbox import enter_sandbox


async def _serve(arguments: ControlArguments, hidden: str, journal: Journal | None) -> int:
    return await ControlApp(arguments, hidden, journal).run()


def main() -> int:
    """Drop privileges, then serve; return the exit code."""
    try:
        arguments = ControlArguments.model_validate_json(sys.argv[1] if len(sys.argv) > 1 else "")
    except ValidationError:
        print("mcr.daemon.control is started by 'mcr serve' only", file=sys.stderr)
        return 2
    set_process_title("mcr: control")
    # A service manager sends these to the whole daemon; the supervisor decides what follows.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    journal = Journal.connect(arguments.log_format, 2)  # the sandbox hides its socket
    try:
        hidden = enter_sandbox(arguments.uid, arguments.gid, arguments.supervisor, arguments.paths)
    except McrError as error:
        print(f"control cannot drop its privileges: {error}", file=sys.stderr)
        return 1
    return asyncio.run(_serve(arguments, hidden, journal))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Threads that resolve host names may block in the C library for an unbounded time.
    os._exit(code)
