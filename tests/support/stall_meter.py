"""How long this machine lets a process wait: the control beside which delays of mcr are judged."""

import os
import subprocess
import sys
from types import TracebackType
from typing import Self

_METER = """
import contextlib, os, select, sys, time

with contextlib.suppress(PermissionError):
    os.nice(-10)  # like the workers under test
os.sched_setaffinity(0, {int(sys.argv[1])})
print("begun", flush=True)
longest_s = 0.0
while True:
    began_s = time.monotonic()
    if select.select([0], [], [], 0.001)[0]:
        break
    longest_s = max(longest_s, time.monotonic() - began_s - 0.001)
print(longest_s)
"""


class StallMeter:
    """Processes that wake up each millisecond, one on each processor, during a block."""

    longest_s = 0.0
    """The longest that one of them was late, once the block is over."""

    def __init__(self) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-I", "-c", _METER, str(cpu)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for cpu in os.sched_getaffinity(0)
        ]

    def __enter__(self) -> Self:
        for each in self._processes:
            assert each.stdout is not None
            assert each.stdout.readline() == "begun\n"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        said = [each.communicate("end", timeout=30)[0] for each in self._processes]
        self.longest_s = max(float(each or "inf") for each in said)
