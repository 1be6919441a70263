"""Processes, as `/proc` shows them."""

from contextlib import suppress
from pathlib import Path


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def waited_s(*pids: int) -> float:
    """How long the threads of processes have waited for a processor (proc_pid_schedstat(5))."""
    waited_ns = 0
    for pid in pids:
        for file in Path("/proc").glob(f"{pid}/task/*/schedstat"):
            with suppress(OSError):  # the thread has ended
                waited_ns += int(file.read_text().split()[1])
    return waited_ns / 1e9
