"""CPU affinity of the workers: parsed from text and checked against the CPUs of this process."""

import os
import re
from collections.abc import Iterable, Sequence

_LIST = re.compile(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*")
_MOST = 1024  # the size of a CPU set of the C library


def chosen_cpus(cpus: Iterable[int] | str, workers: int) -> tuple[int, ...]:
    """Return the CPU of each worker.

    Args:
        cpus: numbers, or text such as `0,2-3`; worker 0 gets the first.
        workers: the number of workers; further CPUs remain unused.

    Raises:
        ValueError: a list that cannot be read, or a CPU that cannot be used; the text says why.
    """
    numbers = _read(cpus) if isinstance(cpus, str) else tuple(cpus)
    if not all(isinstance(cpu, int) and cpu >= 0 for cpu in numbers):
        raise ValueError(f"{cpus!r} is not a list of CPUs; write one such as 0,2-3")
    twice = next((cpu for at, cpu in enumerate(numbers) if cpu in numbers[:at]), None)
    if twice is not None:
        raise ValueError(f"CPU {twice} is listed twice")
    allowed = sorted(os.sched_getaffinity(0))
    foreign = [cpu for cpu in numbers if cpu not in allowed]
    if foreign:
        raise ValueError(
            f"this process may not use CPU {_text(foreign)}; it may use {_text(allowed)}"
        )
    if len(numbers) < workers:
        raise ValueError(f"{workers} workers need {workers} CPUs; the list has {len(numbers)}")
    return numbers[:workers]


def _read(text: str) -> tuple[int, ...]:
    if not _LIST.fullmatch(text):
        raise ValueError(f"{text!r} is not a list of CPUs; write one such as 0,2-3")
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        span = range(int(first), int(last or first) + 1)
        if not span or len(span) > _MOST:
            raise ValueError(f"{part!r} is not a range of CPUs; write one such as 2-3")
        numbers += span
    return tuple(numbers)


def _text(numbers: Sequence[int]) -> str:
    """Format numbers as they are read, consecutive ones as a range."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
