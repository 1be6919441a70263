"""Losses of outputs, interfaces and flows as events: their first one, summaries, and their end.

The counts of the events of one loss add up to what the counters have risen by.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .notice import Moment, Notice, duration
from .timing import Timing

_ADVICE = {
    "too_big": "larger than the path allows: check the MTU",
    "truncated_by_us": "larger than the receive buffers: an MTU or an offload has grown",
    "sequence_gap": "numbers that mcr did not receive: look between the sender and this host",
    "merge_gap": "numbers that no input has delivered: look where both feeds pass",
    "kernel_dropped_frames": "the relay receives too slowly: frames, not datagrams",
}
"""Where the reason alone does not say what to do."""


class NewLoss(NamedTuple):
    """What an output, interface or flow has lost since the last sample."""

    place: str
    """The output, interface or flow, in words."""
    fields: Mapping[str, Any]
    """The members of its events that name it."""
    counts: Mapping[str, int]
    """By reason."""


@dataclass(slots=True)
class _Episode:
    """A loss of one output, interface or flow that has begun and not ended."""

    place: str
    fields: Mapping[str, Any]
    since_s: float
    last_s: float
    reported_s: float
    unreported: Counter[str] = field(default_factory=Counter)
    total: Counter[str] = field(default_factory=Counter)


class LossMonitor:
    """The losses that go on, one for each output, interface and flow that loses."""

    def __init__(self, timing: Timing) -> None:
        """Start without losses."""
        self._timing = timing
        self._episodes: dict[tuple[object, ...], _Episode] = {}

    def sample(self, now: Moment, losses: Iterable[NewLoss]) -> list[Notice]:
        """Return the events that follow from new losses, and from the time."""
        notices: list[Notice] = []
        for loss in losses:
            key = tuple(loss.fields.values())
            episode = self._episodes.get(key)
            if episode is None:
                episode = _Episode(loss.place, loss.fields, now.s, now.s, now.s)
                self._episodes[key] = episode
            is_other = not episode.total.keys() >= loss.counts.keys()
            episode.last_s = now.s
            episode.total.update(loss.counts)
            episode.unreported.update(loss.counts)
            if is_other:
                notices.append(_notice(now, "began", episode))
        notices += self._due(now)
        return notices

    def _due(self, now: Moment) -> Iterator[Notice]:
        for key, episode in list(self._episodes.items()):
            if now.s - episode.last_s >= self._timing.loss_end_s:
                del self._episodes[key]
                yield _notice(now, "ended", episode)
            elif episode.unreported and now.s - episode.reported_s >= self._timing.summary_s:
                yield _notice(now, "continues", episode)


def _notice(now: Moment, event: str, episode: _Episode) -> Notice:
    """An event with what was not reported yet."""
    counts, total = dict(episode.unreported), dict(episode.total)
    episode.unreported.clear()
    episode.reported_s = now.s
    lasted_s = duration(episode.last_s - episode.since_s)
    fields = {
        **episode.fields,
        "counts": counts,
        "total": total,
        "since": now.unix(episode.since_s),
        "duration_s": lasted_s,
    }
    if event == "began":
        text = f"{episode.place} loses {_reasons(counts)}"
    elif event == "continues":
        text = f"{episode.place} still loses, after {lasted_s:.0f} s: {_reasons(counts)}"
    else:
        text = f"{episode.place} loses no more; it lost {_reasons(total)} in {lasted_s:.1f} s"
    return Notice("loss", event, text, fields, is_warning=event != "ended")


def _reasons(counts: Mapping[str, int]) -> str:
    each = (
        f"{count} {reason}{f' ({_ADVICE[reason]})' if reason in _ADVICE else ''}"
        for reason, count in counts.items()
    )
    return ", ".join(each)
