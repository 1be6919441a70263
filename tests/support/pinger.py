"""A process that pings the daemon all the time, and records the slowest answer.

It is a separate process, since tests that attack the daemon keep their own busy.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

PING_S = 0.1
"""Within this a ping must be answered, whatever others do."""
_SHARE = 20
_TRIES = 3

_PINGER = """
import glob, os, select, sys, time, mcr

def waited_s():
    # For a CPU, by all threads of both ends (proc_pid_schedstat(5)).
    files = [file for pid in pids for file in glob.glob(f"/proc/{pid}/task/*/schedstat")]
    return sum(int(open(file).read().split()[1]) for file in files) / 1e9

longest_s = slowest_s = 0.0
with mcr.Client(sys.argv[1]) as client:
    pids = (client.hello().pid, os.getpid())
    client.ping()
    print("begun", flush=True)
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        delayed_s, began_s = waited_s(), time.monotonic()
        client.ping()
        took_s = time.monotonic() - began_s
        slowest_s = max(slowest_s, took_s)
        longest_s = max(longest_s, took_s - (waited_s() - delayed_s))
print(longest_s, slowest_s)
"""


class Pinger:
    """The process, during a block."""

    longest_s = 0.0
    """The longest that an answer took, once the block is over, but for waits for a processor."""
    slowest_s = 0.0
    """The same with these, which a busy machine makes."""
    worked_s = 0.0
    """How long the block took."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PINGER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begun\n"
        self._began_s = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.worked_s = time.monotonic() - self._began_s
        said, _errors = self._process.communicate("end", timeout=30)
        self.longest_s, self.slowest_s = map(float, said.split() or ("inf", "inf"))

    @property
    def is_prompt(self) -> bool:
        """Whether each answer was in time: within `PING_S`, or a small share of the block.

        Where a neighbour has half of the processor, or of its caches, the work of the block takes
        longer, and so does each of the pieces between which the daemon serves other clients. A
        daemon that is blocked by the work answers at its end.
        """
        return self.longest_s < max(PING_S, self.worked_s / _SHARE)


def undelayed(path: Path, work: Callable[[], object]) -> float:
    """Do some work while another process pings the daemon, which must always answer in time.

    Makes up to three attempts, since a busy machine may delay any process; a daemon that is blocked
    by the work is late each time. Returns the slowest answer of the last attempt, in seconds.
    """
    longest: list[float] = []
    for _ in range(_TRIES):
        with Pinger(path) as pinger:
            work()
        longest.append(pinger.longest_s)
        if pinger.is_prompt:
            return pinger.longest_s
    raise AssertionError(f"a ping waited for {longest} s beside {pinger.worked_s:.2f} s of work")
