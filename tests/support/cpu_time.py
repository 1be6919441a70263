"""The processor time of programs, which other load hardly changes."""

import os
import sys
from collections.abc import Sequence


def cpu_time_s(arguments: Sequence[str], exit_code: int = 0) -> float:
    """Run an interpreter with arguments and without output; return its processor time."""
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, *arguments],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, used = os.wait4(child, 0)
    assert os.waitstatus_to_exitcode(status) == exit_code
    return used.ru_utime + used.ru_stime


def interpreter_start_s(runs: int = 5) -> float:
    """The processor time of an interpreter that does nothing: a measure of this machine now."""
    return min(cpu_time_s(["-c", "pass"]) for _ in range(runs))
