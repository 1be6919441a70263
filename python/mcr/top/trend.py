"""The rates of the last seconds, and their picture in a line of text."""

from array import array
from collections.abc import Sequence
from math import isnan, nan

SECONDS = 60
"""How far a trend reaches back."""
_BRIDGED_S = 2  # a reading that comes late leaves no gap
_BARS = "▁▂▃▄▅▆▇█"


class RateTrend:
    """One rate for each of the last seconds; nan where it was not read."""

    __slots__ = ("_second", "_values")

    def __init__(self) -> None:
        """Know nothing yet."""
        self._values = array("f")
        self._second = 0

    def add(self, at: float, pps: float) -> None:
        """Add the rate at `at`, in seconds; a time before the last one is ignored."""
        second = int(at)
        passed = second - self._second if self._values else 1
        if passed < 0:
            return
        if passed == 0:
            self._values.pop()
        elif passed - 1 <= _BRIDGED_S:
            self._values.extend([pps] * (passed - 1))
        else:
            self._values.extend([nan] * min(passed - 1, SECONDS))
        self._second = second
        self._values.append(pps)
        del self._values[:-SECONDS]

    def bars(self, width: int, now: float) -> str:
        """The last `width` seconds before `now`, the newest at the right.

        The largest of these rates is a full bar; a second that was not read is a space.
        """
        late = min(width, max(0, int(now) - self._second - _BRIDGED_S)) if self._values else 0
        shown = [*self._values[-width:], *([nan] * late)][-width:]
        return _bars(shown).rjust(width)


def _bars(values: Sequence[float]) -> str:
    highest = max((each for each in values if not isnan(each)), default=0.0)
    steps = len(_BARS) - 1
    return "".join(
        " " if isnan(each) else _BARS[round(steps * each / highest) if highest else 0]
        for each in values
    )
