"""`Relay`: a running set of rules, and its counters.

Owns the life cycle, the order of changes made by several threads, and the translation of the
engine's counters into `Stats`. What a rule may say is decided in `config`; sockets, threads and
datagrams belong to the native engine.
"""

import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Literal, Self

from ._native import RelayCore, interfaces
from .config import Plan, RuleSet
from .errors import McrError, RuleError
from .reading import Running, stats_of
from .rules import Rule, parse_rules
from .stats import Stats

Ingress = Literal["auto", "packet", "udp"]
BUFFER_BYTES = 32 * 2**20
"""Receive buffers per worker unless asked otherwise; memory is touched only when used."""
WORKERS_LIMIT = 256
"""More threads than that serve nobody: it is the limit of a fan-out group (packet(7)) too."""
_BUFFER_LEAST_BYTES = 2**20  # a few super-frames
_BUFFER_LIMIT_BYTES = 2**40


class Relay:
    """A multicast relay inside this process.

    Use it as a context manager, or call `open`, `start` and `close`. Every method may be called
    from any thread. The engine runs in threads of its own, which never take Python's lock for a
    datagram.

    Example:
        with mcr.Relay("239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001") as relay:
            relay.wait()
    """

    def __init__(
        self,
        *rules: Rule | str,
        ingress: Ingress = "auto",
        workers: int = 1,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        """Take rules, as values or as text; nothing is opened yet.

        Args:
            rules: what to relay; more may come and go later.
            ingress: `packet` (AF_PACKET, needs CAP_NET_RAW), `udp` (joined sockets, no rights),
                or `auto`: packet where it is permitted.
            workers: engine threads, 1 to 256.
            buffer_bytes: receive buffers of each worker, 1 MiB to 1 TiB. Beside them, each of the
                first four interfaces with GRO off has a ring of an eighth of this.

        Raises:
            RuleError: rule text that cannot be read; its `problems` names all of them.
            ValueError: an ingress, a number of workers or of bytes that cannot be.
        """
        self._core: RelayCore | None = None
        self._pid = os.getpid()
        if ingress not in ("auto", "packet", "udp"):
            raise ValueError(f"ingress: {ingress!r} is none of auto, packet, udp")
        if not isinstance(workers, int) or not 1 <= workers <= WORKERS_LIMIT:
            raise ValueError(f"workers: {workers!r} is not in 1 to {WORKERS_LIMIT}")
        if not (
            isinstance(buffer_bytes, int)
            and _BUFFER_LEAST_BYTES <= buffer_bytes <= _BUFFER_LIMIT_BYTES
        ):
            raise ValueError(f"buffer_bytes: {buffer_bytes!r} is not in 1 MiB to 1 TiB")
        self._ingress: Ingress = ingress
        self._workers = workers
        self._buffer_bytes = buffer_bytes
        self._waiting = parse_rules(rules)
        self._set: RuleSet | None = None
        self._running: dict[str, Running] = {}
        self._warnings: tuple[str, ...] = ()
        self._started = self._stopped = self._closed = False
        self._lock = threading.RLock()

    def open(self) -> None:
        """Check the rules against this host and open their sockets, with the caller's rights.

        Nothing is received before `start`, so that a program may give up rights in between.
        Twice is once.

        Raises:
            RuleError: rules that this host cannot serve; `problems` names everything.
            InterfaceError: the kernel refused an interface or an address.
            RightsError: a capability is missing; the text names it.
        """
        with self._guard():
            if self._core is not None:
                return
            core = RelayCore(self._ingress, self._workers, self._buffer_bytes)
            rule_set = RuleSet(core.ingress)
            try:
                plan = rule_set.plan(interfaces(), add=self._waiting)
                self._apply(core, rule_set, plan)
            except BaseException:
                core.stop()
                raise
            self._core, self._set = core, rule_set

    def start(self) -> None:
        """Start to relay; opens first where that was not done. Twice is once.

        Raises:
            RightsError: the kernel refuses io_uring; the text names the sysctl.
            EngineError: the engine did not come up; the text says why.
            McrError: the relay was stopped; it cannot start again.
        """
        with self._guard():
            if self._stopped:
                raise McrError("the relay was stopped; make a new one")
            self.open()
            if not self._started:
                self._started = True
                self._opened()[0].start()

    def stop(self) -> None:
        """Stop to relay; the counters stay readable until `close`. Twice is once."""
        with self._guard():
            self._stopped = True
            if self._core is not None:
                self._core.stop()

    def close(self) -> None:
        """Stop and give everything back. Twice is once.

        Raises:
            McrError: called in a process forked from the relay's own.
        """
        self._check_process()
        with self._lock:
            core, self._core, self._closed = self._core, None, True
            if core is not None:
                core.stop()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the relay stops; Ctrl-C interrupts the waiting.

        Args:
            timeout_s: the longest time to wait, in seconds from 0; None waits for ever.

        Returns:
            True when the relay stopped because somebody stopped it, False after the time.

        Raises:
            EngineError: the engine stopped by itself; the text says why.
            McrError: the relay was not started.
            ValueError: a time below 0, or none.
        """
        if timeout_s is not None and not timeout_s >= 0:
            raise ValueError(f"timeout_s: {timeout_s} is not 0 or more")
        with self._guard():
            core = self._opened()[0]
            if not self._started:
                raise McrError("the relay was not started; there is nothing to wait for")
        return core.wait(None if timeout_s is None else min(timeout_s, threading.TIMEOUT_MAX))

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, oldest first."""
        with self._guard():
            return self._waiting if self._set is None else self._set.rules

    def add_rule(self, rule: Rule | str) -> Rule:
        """Add a rule; when this returns, every worker has it. Other rules do not notice.

        Returns:
            The rule, parsed where it was text.

        Raises:
            RuleError: a rule that this host or another rule does not allow; nothing has changed.
            InterfaceError, RightsError: as in `open`; nothing has changed.
        """
        with self._guard():
            (added,) = parse_rules([rule])
            self._change(remove=[], add=[added])
            return added

    def remove_rule(self, rule: Rule | str) -> None:
        """Remove a rule, given as a value, or by its id or its name.

        Raises:
            RuleError: there is no such rule.
        """
        with self._guard():
            self._change(remove=[self._find(rule)], add=[])

    def replace_rules(self, rules: Iterable[Rule | str]) -> None:
        """Make these the rules, all or nothing; rules that stay keep their counters and flow.

        Raises:
            RuleError, InterfaceError, RightsError: as in `add_rule`; nothing has changed.
        """
        with self._guard():
            wanted = parse_rules(rules)
            self._change(remove=[rule.id for rule in self.rules], add=wanted)

    def stats(self) -> Stats:
        """Return one consistent reading of all counters.

        Raises:
            McrError: the relay is not open.
        """
        with self._guard():
            core, _ = self._opened()
            return stats_of(core.stats(), self._running.values())

    @property
    def error(self) -> str | None:
        """Why the engine stopped by itself; None while all is well."""
        with self._guard():
            return None if self._core is None else self._core.error

    @property
    def ingress(self) -> Ingress:
        """How datagrams are received; once open it is `packet` or `udp`, never `auto`."""
        with self._guard():
            return self._ingress if self._core is None else self._core.ingress

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know though it works, one sentence each."""
        with self._guard():
            native = () if self._core is None else tuple(self._core.warnings())
            return self._warnings + native

    def __enter__(self) -> Self:
        """Open and start."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def __del__(self) -> None:
        """Warn about a relay that was opened and never closed; a forked child owns nothing."""
        core = getattr(self, "_core", None)
        if core is not None and self._pid == os.getpid():
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=1)
            core.stop()

    def __repr__(self) -> str:
        """State and size, without taking a lock."""
        state = "closed" if self._closed else "new" if self._core is None else "open"
        count = len(self._waiting if self._set is None else self._set)
        return f"<mcr.Relay {state}, {count} rules>"

    def _change(self, *, remove: list[str], add: Iterable[Rule]) -> None:
        if self._stopped:
            raise McrError("the relay was stopped; its rules change no more")
        if self._core is None or self._set is None:
            self._waiting = (*(rule for rule in self._waiting if rule.id not in remove), *add)
            return
        plan = self._set.plan(interfaces(), remove=remove, add=add)
        self._apply(self._core, self._set, plan)

    def _apply(self, core: RelayCore, rule_set: RuleSet, plan: Plan) -> None:
        """Make a plan real: rules that go and come back the same stay untouched in the engine."""
        coming = {
            rule.id: Running(0, rule, resolved)
            for rule, resolved in zip(plan.added, plan.resolved, strict=True)
        }
        kept = {
            rule_id: new._replace(key=old.key)
            for rule_id, new in coming.items()
            if (old := self._running.get(rule_id)) is not None and old.resolved == new.resolved
        }
        fresh = {rule_id: new for rule_id, new in coming.items() if rule_id not in kept}
        gone = [self._running[rule_id].key for rule_id in plan.removed if rule_id not in kept]
        keys = core.change(gone, [new.resolved for new in fresh.values()])
        rule_set.commit(plan)
        kept |= {
            rule_id: new._replace(key=key)
            for (rule_id, new), key in zip(fresh.items(), keys, strict=True)
        }
        stay = {k: v for k, v in self._running.items() if k not in plan.removed}
        self._running = stay | {rule_id: kept[rule_id] for rule_id in coming}
        self._warnings = tuple(dict.fromkeys((*self._warnings, *plan.warnings)))

    def _find(self, rule: Rule | str) -> str:
        known = self.rules
        if isinstance(rule, Rule):
            found = [each.id for each in known if each.id == rule.id]
        else:
            found = [each.id for each in known if rule in (each.id, each.name)]
        if not found:
            raise RuleError([("rule", f"there is none with the id or name {str(rule)!r}")])
        return found[0]

    def _opened(self) -> tuple[RelayCore, RuleSet]:
        if self._core is None or self._set is None:
            raise McrError("the relay is not open; use it in a with statement, or call start()")
        return self._core, self._set

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Let one thread in, into a relay that can still be used."""
        self._check_process()
        with self._lock:
            if self._closed:
                raise McrError("the relay is closed")
            yield

    def _check_process(self) -> None:
        # Before the lock: another thread of the parent may have held it during the fork.
        if self._pid != os.getpid():
            raise McrError("the relay belongs to the process that made it, not to a forked child")
