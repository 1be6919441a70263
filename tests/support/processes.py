"""Processes, as `/proc` shows them."""

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
    files = [file for pid in pids for file in Path("/proc").glob(f"{pid}/task/*/schedstat")]
    return sum(int(file.read_text().split()[1]) for file in files) / 1e9
