"""What `mcr capture` still writes once it is to end."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import cast

import pytest

from mcr.cli.capture import _summary, _until
from mcr.taps.stream import TapStream


class Record:
    """Something that a tap recorded."""

    def __init__(self, after_s: float) -> None:
        self.time_ns = time.time_ns() + round(after_s * 1e9)


class Stream:
    """A tap with two records, then one from after the end."""

    def __init__(self, *, interrupted: bool) -> None:
        self.records = [Record(0), Record(0), Record(60), Record(0)]
        self._interrupted = interrupted

    def read(self, timeout_s: float) -> Record | None:
        """Be interrupted while it waits, or find nothing in time; later read without waiting."""
        if timeout_s == 0:
            return self.records.pop(0)
        if self._interrupted:
            raise KeyboardInterrupt
        time.sleep(timeout_s)
        return None


@pytest.mark.parametrize(("interrupted", "seconds"), [(True, None), (True, 60.0), (False, 0.05)])
def test_what_was_recorded_before_the_end_is_written(
    interrupted: bool, seconds: float | None
) -> None:
    """Whatever ends the capture; what comes later is not waited for."""
    stream = Stream(interrupted=interrupted)
    before = stream.records[:2]
    records: Iterable[object] = _until(cast("TapStream", stream), seconds)
    assert [each for each in records if each is not None] == before
    assert len(stream.records) == 1


def test_the_end_says_what_there_was() -> None:
    """Each frame once, and what the rings could not hold."""
    counts = Counter(matched=3, sent=5, lost=1, discarded=2)
    assert _summary(counts, 0) == "captured 11 frames: 3 received, 5 sent, 3 dropped"
    assert _summary(Counter(), 7).endswith("0 dropped; 7 were not read in time")
