"""`python -m mcr.daemon.control ARGUMENTS`: started by the supervisor, and by nobody else."""

import asyncio
import os
import signal
import sys

from pydantic import ValidationError

from ...errors import McrError
from ...protocol.constants import name_process
from .app import ControlApp
from .arguments import Arguments
from .sandbox import give_up


async def _serve(arguments: Arguments, hidden: str) -> int:
    return await ControlApp(arguments, hidden).run()


def main() -> int:
    """Give up rights, then serve; the exit code."""
    try:
        arguments = Arguments.model_validate_json(sys.argv[1] if len(sys.argv) > 1 else "")
    except ValidationError:
        print("mcr.daemon.control is started by 'mcr serve' only", file=sys.stderr)
        return 2
    name_process("mcr-control")
    # They reach the whole group; the supervisor says what follows.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        hidden = give_up(arguments.uid, arguments.gid, arguments.supervisor, arguments.socket)
    except McrError as error:
        print(f"control cannot give up its rights: {error}", file=sys.stderr)
        return 1
    return asyncio.run(_serve(arguments, hidden))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Threads that look host names up may hang in the C library for as long as it likes.
    os._exit(code)
