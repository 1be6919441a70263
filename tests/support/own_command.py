"""Commands of `mcr` in the process of the test: much quicker than a process for each."""

import contextlib
import io
from typing import NamedTuple

from mcr.cli import main


class CommandResult(NamedTuple):
    """What a command has printed, and its exit code."""

    code: int
    out: str
    err: str


def mcr_here(*words: object) -> CommandResult:
    """Run a command that neither reads standard input nor handles signals."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*map(str, words)])
    return CommandResult(code or 0, out.getvalue(), err.getvalue())
