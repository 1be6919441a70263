"""The events of a relay in this process: when its counters are sampled, and who gets what follows.

A thread samples while some rule expects something or a stream of events is open; else there is
none.
"""

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar, get_args

from ..alarms.event import Event
from ..alarms.monitor import INTERVAL_S
from ..alarms.notice import Notice, NoticeKind
from ..errors import ArgumentError
from ..rules.host_change import HostChange
from .active_rules import ActiveRules, CountedRule
from .event_stream import RelayEventStream
from .log import RelayLog, is_logged
from .retries import Retries

T = TypeVar("T")
KINDS: tuple[NoticeKind, ...] = get_args(NoticeKind)
"""The kinds of events that a relay without a daemon has."""


class EventWatch(Generic[T]):
    """The streams of events of one relay, and the thread that samples for them."""

    def __init__(self, owner: T, sample: Callable[[T], bool]) -> None:
        """Start without a thread.

        Args:
            owner: the argument of `sample`; a weak reference.
            sample: calls `EventWatch.sample`, and returns its result.
        """
        self._samples = Retries(owner, sample, name="mcr-events", interval_s=INTERVAL_S)
        self._lock = threading.Lock()
        self._sampling = threading.Lock()
        # Weak: who leaves a loop over a stream without closing it ends the stream all the same.
        self._streams = weakref.WeakSet[RelayEventStream]()
        self._sequence = 0
        self._log = RelayLog()

    @property
    def is_read(self) -> bool:
        """Whether a stream is open."""
        return len(self._streams) > 0

    def open(self, kinds: Iterable[str] | None) -> RelayEventStream:
        """Open a stream.

        Raises:
            ArgumentError: a kind that no relay has.
        """
        if isinstance(kinds, str) or not isinstance(kinds, Iterable | None):
            raise ArgumentError("kinds are a sequence; write [kind] for a single one")
        chosen = KINDS if kinds is None else tuple(kinds)
        for kind in chosen:
            if kind not in KINDS:
                raise ArgumentError(f"kinds: {kind!r} is not one of {', '.join(KINDS)}")
        stream = RelayEventStream(chosen, self._forget)
        with self._lock:
            self._streams.add(stream)
        return stream

    def begin(self) -> None:
        """Sample in a thread, from now on."""
        self._samples.begin()

    def log_change(self, running: ActiveRules) -> None:
        """Log what is new about the rules, and the warnings."""
        self._log.rules(running.watched.values())
        self._log.warnings(running.warnings)

    def log_hosts(self, changes: Iterable[HostChange]) -> None:
        """Log what resolving host names again has found."""
        self._log.hosts(changes)

    def sample(self, running: ActiveRules, rules: Mapping[str, CountedRule]) -> bool:
        """Sample the counters once, and publish what follows; return whether to continue."""
        logs = is_logged()
        if logs:
            self._log.warnings(running.warnings)
            self._log.report_suppressed()
        if not (self.is_read or running.expects or logs):
            running.monitor.forget()
            running.troubles.forget()
            return False
        with self._sampling:
            troubles = running.troubles.sample(running.core, rules)
            for notice in running.monitor.sample(running.core.reading(), rules, troubles):
                self._publish(notice)
        return True

    def end(self) -> None:
        """End the thread and all streams."""
        self._samples.end()
        for stream in self._open_streams():
            stream.end()
        self._log.report_suppressed(at_once=True)

    def _publish(self, notice: Notice) -> None:
        self._log.notice(notice)
        if notice.kind == "log":
            return
        self._sequence += 1
        at = round(time.time(), 6)
        event = Event(self._sequence, at, notice.kind, notice.event, notice.text, notice.fields)
        for stream in self._open_streams():
            stream.offer(event)

    def _open_streams(self) -> list[RelayEventStream]:
        with self._lock:
            return list(self._streams)

    def _forget(self, stream: RelayEventStream) -> None:
        with self._lock:
            self._streams.discard(stream)
