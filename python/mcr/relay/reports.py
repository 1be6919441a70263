"""What a relay reports about itself: counters, flows, events, errors.

`RelayReports` is the base of `Relay`, which controls it.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from ..choices import IngressChoice
from ..errors import ArgumentError, McrError, RuleError
from ..explain.results import DatagramFacts, Explanation
from ..rules import Rule
from ..stats import FlowStats, Stats
from ..taps.filter import RING_BYTES, TRACE_FRAME_BYTES, Taken, TapFilter, check_reason
from ..taps.rules import check_output
from ..taps.stream import TapStream
from .active_rules import ActiveRules
from .candidate_rules import CandidateRules
from .event_stream import RelayEventStream
from .event_watch import EventWatch
from .lifecycle import Lifecycle
from .log import is_logged
from .relay_tap import RelayTap
from .retries import Retries
from .settings import RelaySettings


class RelayReports:
    """The parts of a relay, and what can be read of them. All methods are thread-safe."""

    def __init__(
        self,
        settings: RelaySettings,
        candidate: CandidateRules,
        retries: "Retries[Any]",
    ) -> None:
        """Combine the parts; nothing is open yet."""
        self._running: ActiveRules | None = None
        self._life = Lifecycle()
        self._settings = settings
        self._candidate = candidate
        self._retries = retries
        self._events = EventWatch(self, RelayReports._sample)

    def stats(self) -> Stats:
        """Return one consistent reading of all counters.

        Raises:
            McrError: the relay is not open.
        """
        with self._life.locked():
            return self._opened().stats(self._life.uptime_s)

    def flows(self, *rules: Rule | str) -> tuple[FlowStats, ...]:
        """Return who sends to all rules or the given ones, those with the most datagrams first.

        At most 8192 flows are known for each worker; the least recent give way to new ones
        (`RuleStats.flows_evicted`).

        Raises:
            RuleError: there is no such rule.
            McrError: the relay is not open, or does not count flows (`flows=True`).
        """
        with self._life.locked():
            found = self._opened().flows([self._find(rule) for rule in rules] if rules else None)
        if found is None:
            raise McrError("the relay does not count flows; create it with flows=True")
        return found

    def explain(self, *datagrams: DatagramFacts | str) -> tuple[Explanation, ...]:
        """Return what the relay would do with datagrams, and why; it sends nothing.

        Each is a value, or words such as ``10.0.0.5:4000@239.1.1.1%eth0:5001 ttl=4 size=1200``.
        Routes and links are read in the caller's network namespace.

        Raises:
            RuleError: a datagram is invalid.
            McrError: the relay is not open.
        """
        with self._life.locked():
            explainer = self._opened().explainer(self._life.uptime_s)
        return tuple(map(explainer.explain, datagrams))

    def events(self, kinds: Iterable[str] | None = None) -> RelayEventStream:
        """Return a stream of what happens from now on.

        Alarms, losses, changed senders, inputs that wait and outputs that are parked.

        Args:
            kinds: any of rule, alarm, loss; None means all.

        Raises:
            McrError: the relay is not open.
        """
        with self._life.locked():
            self._opened()
            self._life.check_startable()
            stream = self._events.open(kinds)
            self._retry()
        self._sample()  # what is lost from now on shows in the next sample
        return stream

    def capture(
        self,
        rule: Rule | str | None = None,
        *,
        output: int | None = None,
        reason: str | None = None,
        take: Iterable[Taken] | None = None,
        sample: int = 1,
        ring_bytes: int = RING_BYTES,
    ) -> TapStream:
        """Capture frames as they are received, sent and dropped; close the stream, or use `with`.

        Interfaces are named as in the caller's network namespace.

        Args:
            rule: the only rule; None captures all.
            output: the only output of the rule, from 1, of which copies alone are captured.
            reason: the only reason of drops, which alone are captured.
            take: any of received, sent and dropped; None means all.
            sample: capture every n-th datagram, with its copies.
            ring_bytes: the memory of each worker for what was not read yet, 1 to 64 MiB.

        Raises:
            RuleError: there is no such rule, output or reason, or too many captures run.
            ArgumentError: an argument is out of its range.
            McrError: the relay is not open.
        """
        wanted = TapFilter(
            rule=None if rule is None else str(rule),
            output=output,
            reason=reason,
            take=take,
            sample=sample,
            ring_bytes=ring_bytes,
        )
        return TapStream(lambda: self._begin_tap(rule, wanted)).begin()

    def trace(self, rule: Rule | str, *, sample: int = 1) -> TapStream:
        """Follow datagrams of a rule: each step with its time, and drops with their reason.

        Args:
            rule: the rule.
            sample: follow every n-th datagram.

        Raises:
            RuleError: there is no such rule, or too many captures run.
            McrError: the relay is not open.
        """
        wanted = TapFilter(rule=str(rule), sample=sample, frame_bytes=TRACE_FRAME_BYTES)
        return TapStream(lambda: self._begin_tap(rule, wanted)).begin()

    def _begin_tap(self, rule: Rule | str | None, wanted: TapFilter) -> RelayTap:
        check_reason(wanted.reason)
        with self._life.locked():
            opened = self._opened()
            rule_id = None if rule is None else self._find(rule)
        rules = [each for each in opened.rules if rule_id in (None, each.id)]
        if rule_id is not None:
            check_output(wanted, rules[0])
        wanted = replace(wanted, rule=rule_id)
        workers = self._settings.workers
        return RelayTap(opened.core, workers, rules, wanted, lambda: self._life.is_stopped)

    @property
    def error(self) -> str | None:
        """Why the engine failed; None if it has not."""
        with self._life.locked():
            self._life.check_usable()
            return None if self._running is None else self._running.core.error

    @property
    def ingress(self) -> IngressChoice:
        """The ingress; `packet` or `udp` once the relay is open."""
        with self._life.locked():
            self._life.check_usable()
            return self._settings.ingress if self._running is None else self._running.core.ingress

    @property
    def engine(self) -> Literal["io_uring", "poll"] | None:
        """How it receives and sends: `poll` where the kernel refuses io_uring; None before `start`.

        `warnings` says what refuses it.
        """
        with self._life.locked():
            self._life.check_usable()
            return None if self._running is None else self._running.core.engine

    @property
    def warnings(self) -> tuple[str, ...]:
        """Problems that do not prevent relaying, one sentence each."""
        with self._life.locked():
            return self._rules.warnings

    @property
    def _rules(self) -> CandidateRules | ActiveRules:
        """The rules, in the core or not yet; McrError if the relay is closed."""
        self._life.check_usable()
        return self._candidate if self._running is None else self._running

    def _retry(self) -> None:
        """Begin the threads that the rules need, unless the relay has not started."""
        if not self._life.is_started or self._life.is_stopped:
            return
        running = self._opened()
        if is_logged():
            self._events.log_change(running)
        if running.unfinished:
            self._retries.begin()
        if self._events.is_read or running.expects or is_logged():
            self._events.begin()

    def _sample(self) -> bool:
        """Sample the counters once; return whether to continue."""
        with self._life.locked():
            running = None if self._life.is_stopped else self._running
            rules = {} if running is None else running.watched
        return running is not None and self._events.sample(running, rules)

    def _find(self, rule: Rule | str) -> str:
        if not isinstance(rule, Rule | str):
            raise ArgumentError(
                f"a rule must be an mcr.Rule or a string, not {type(rule).__name__}"
            )
        found = self._rules.find(rule)
        if found is None:
            raise RuleError([("rule", f"there is none with the id or name {str(rule)!r}")])
        return found

    def _opened(self) -> ActiveRules:
        self._life.check_usable()
        if self._running is None:
            raise McrError("the relay is not open; use it in a with statement, or call start()")
        return self._running
