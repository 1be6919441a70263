"""The course of a soak: what its processes hold and how long datagrams take, and plots of both."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

import mcr

from .daemons import descriptors, memory_kib

GROWTH = 1.1
GROWTH_KIB = 4096
DRIFT = 4.0
DRIFT_US = 500.0
"""Half a millisecond: what a busy machine adds to the best moments of a while."""
_PAUSE_S = 0.05
_READINGS = 10
_WIDTH, _HEIGHT, _LEFT, _TOP = 900, 160, 90, 30
_COLOURS = ("#1f6feb", "#8b949e", "#c9b458", "#2da44e", "#cf222e")


class Sizes(NamedTuple):
    """What a process holds."""

    rss_kib: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> "Sizes":
        """Read them from /proc."""
        return cls(memory_kib(pid), descriptors(pid), len(os.listdir(f"/proc/{pid}/task")))

    @classmethod
    def at_rest(cls, pid: int) -> "Sizes":
        """The smallest of some readings: a process may serve something at the moment."""
        readings = []
        for _ in range(_READINGS):
            readings.append(cls.of(pid))
            time.sleep(_PAUSE_S)
        return cls(*map(min, zip(*readings, strict=True)))

    def has_grown(self, before: "Sizes") -> bool:
        """Whether this is more than rest and rounding explain."""
        most_kib = before.rss_kib * GROWTH + GROWTH_KIB
        same = self.threads <= before.threads and self.descriptors <= before.descriptors
        return self.rss_kib > most_kib or not same


class Moment(NamedTuple):
    """One look at all processes."""

    at_s: float
    sizes: Mapping[str, Sizes]
    """By the role of each process."""
    median_us: float | None
    """Of the latencies since the look before; None if none was measured."""


class Course:
    """All looks of a soak, in their order."""

    def __init__(self) -> None:
        """Begin without one."""
        self.moments: list[Moment] = []
        self._buckets: dict[float, int] = {}

    def note(self, at_s: float, pids: Mapping[str, int], rules: Iterable[mcr.RuleStats]) -> None:
        """Look at the processes, and at the latency of the rules since the last time."""
        sizes = {}
        for role, pid in pids.items():
            try:
                sizes[role] = Sizes.of(pid)
            except (OSError, IndexError):
                continue  # it has died meanwhile
        self.moments.append(Moment(at_s, sizes, self._median_us(rules)))

    def _median_us(self, rules: Iterable[mcr.RuleStats]) -> float | None:
        sums: dict[float, int] = {}
        for rule in rules:
            for least_us, _, count in rule.latency.buckets if rule.latency else ():
                sums[least_us] = sums.get(least_us, 0) + count
        new = {us: max(0, count - self._buckets.get(us, 0)) for us, count in sorted(sums.items())}
        self._buckets = sums
        left = sum(new.values()) // 2
        for us, count in new.items():
            left -= count
            if left < 0:
                return us
        return None

    def drift(self) -> str:
        """Say how the latency has changed from the second quarter to the last.

        Raises:
            AssertionError: it has become longer, also in the best moments.
        """
        quarter = len(self.moments) // 4
        early, late = (
            min((each.median_us for each in part if each.median_us is not None), default=0.0)
            for part in (self.moments[quarter : 2 * quarter], self.moments[3 * quarter :])
        )
        assert late <= early * DRIFT + DRIFT_US, (early, late)
        quarters = f"{early:.0f} us in the second quarter, {late:.0f} in the last"
        return f"median latency in the best moment: {quarters}"

    def as_svg(self) -> str:
        """Draw memory, descriptors and latency over time."""
        roles = sorted({role for moment in self.moments for role in moment.sizes})
        memory, files = (
            {
                role: [
                    (moment.at_s, float(moment.sizes[role][place]))
                    for moment in self.moments
                    if role in moment.sizes
                ]
                for role in roles
            }
            for place in (0, 1)
        )
        latency = [
            (each.at_s, each.median_us) for each in self.moments if each.median_us is not None
        ]
        panels = {
            "resident memory, KiB": memory,
            "descriptors": files,
            "median latency, us": {"steady flows": latency},
        }
        rows = [
            line
            for number, (title, lines) in enumerate(panels.items())
            for line in _panel(number * (_HEIGHT + 2 * _TOP), title, lines)
        ]
        height = len(panels) * (_HEIGHT + 2 * _TOP)
        style = 'font-family="sans-serif" font-size="12" fill="#24292f"'
        box = f"0 0 {_WIDTH} {height}"
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" {style}>'
        ground = f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
        return "\n".join([head, ground, *rows, "</svg>", ""])


def _panel(
    top: int, title: str, lines: Mapping[str, Sequence[tuple[float, float]]]
) -> Iterator[str]:
    """One plot: a line for each name, over the same time and from 0."""
    points = [point for line in lines.values() for point in line]
    most_s = max((at_s for at_s, _ in points), default=1.0) or 1.0
    most = max((value for _, value in points), default=1.0) or 1.0
    bottom, width = top + _TOP + _HEIGHT, _WIDTH - _LEFT - 20
    yield f'<text x="10" y="{top + 20}" font-size="15">{escape(title)}</text>'
    for y, text in ((top + _TOP + 10, f"{most:,.0f}"), (bottom, "0")):
        yield f'<text x="{_LEFT - 8}" y="{y}" text-anchor="end">{text}</text>'
    end = f"{most_s / 60:.1f} min"
    yield f'<text x="{_WIDTH - 20}" y="{bottom + 16}" text-anchor="end">{end}</text>'
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = " ".join(
            f"{_LEFT + at_s / most_s * width:.1f},{bottom - value / most * _HEIGHT:.1f}"
            for at_s, value in line
        )
        yield f'<polyline points="{places}" fill="none" stroke="{colour}"/>'
        x = _LEFT + 150 * number
        yield f'<text x="{x}" y="{bottom + 16}" fill="{colour}">{escape(name)}</text>'
