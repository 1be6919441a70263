"""Somebody who pings the daemon all the time, and notes the longest that an answer took.

A process of its own, since tests that attack the daemon keep theirs busy. Knows one request.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

PING_S = 0.1
"""Within this a ping must be answered, whatever others do."""
_TRIES = 3

_PINGER = """
import select, socket, sys, time
talk = socket.socket(socket.AF_UNIX)
talk.connect(sys.argv[1])
count, longest_s = 0, 0.0
while not select.select([sys.stdin], [], [], 0.002)[0]:
    began_s = time.perf_counter()
    talk.sendall(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\\n')
    assert talk.recv(65536).endswith(b"\\n")
    longest_s = max(longest_s, time.perf_counter() - began_s)
    count += 1
    if count == 5:
        print("begun", flush=True)
print(longest_s)
"""


class Pinger:
    """The process, for the time of a block."""

    longest_s = 0.0
    """The longest that an answer took, once the block is over."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _PINGER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begun\n"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        said, _errors = self._process.communicate("end", timeout=30)
        self.longest_s = float(said)


def undelayed(path: Path, work: Callable[[], object]) -> float:
    """Do something while somebody else pings, who must always be answered in time.

    Up to three times, since a busy machine may let any process wait; a daemon that is held up is
    so each time. Returns the longest that an answer took, in the last try.
    """
    longest: list[float] = []
    while not longest or (longest[-1] >= PING_S and len(longest) < _TRIES):
        with Pinger(path) as pinger:
            work()
        longest.append(pinger.longest_s)
    assert longest[-1] < PING_S, longest
    return longest[-1]
