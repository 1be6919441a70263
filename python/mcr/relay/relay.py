"""`Relay`: a running set of rules, and its counters.

Owns the order of what several threads ask for; what may be done when is decided in `lifecycle`, how
a change is made is the business of `running`. What a rule may say is decided in `config`; sockets,
threads and datagrams belong to the native engine.
"""

import threading
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from ..choices import Hosts, IngressChoice
from ..errors import McrError, RuleError
from ..rules import Rule, parse_rules
from ..rules.hostnames import HostChange, HostResolver, resolve_again
from ..stats import Stats
from .active_rules import ActiveRules
from .candidate_rules import CandidateRules
from .lifecycle import Lifecycle
from .retries import Retries
from .settings import BUFFER_BYTES, RelaySettings


class Relay:
    """A multicast relay inside this process.

    Use it as a context manager, or call `open`, `start` and `close`. Every method may be called
    from any thread. The engine runs in threads of its own, which never take Python's lock for a
    datagram.

    A signal handler may raise at any point, as that of Ctrl-C raises `KeyboardInterrupt`. A change
    (`add_rule` and the like) that it interrupts was made as a whole or not at all, and the relay
    can be used on: `rules`, or `stats().rules`, says which.

    Example:
        with mcr.Relay("239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001") as relay:
            relay.wait()
    """

    def __init__(
        self,
        *rules: Rule | str,
        ingress: IngressChoice = "auto",
        workers: int = 1,
        buffer_bytes: int = BUFFER_BYTES,
        cpus: Iterable[int] | str | None = None,
        verify_checksums: bool = True,
        hosts: Hosts = "first",
    ) -> None:
        """Take rules, as values or as text; nothing is opened yet.

        Args:
            rules: what to relay; more may come and go later.
            ingress: `packet` (AF_PACKET, needs CAP_NET_RAW), `udp` (joined sockets, no rights),
                or `auto`: packet where it is permitted.
            workers: engine threads, 1 to 256.
            buffer_bytes: receive buffers of each worker, 1 MiB to 1 TiB. Beside them, each of the
                first four interfaces with GRO off has a ring of half of this.
            cpus: the CPU of each worker, as numbers or as `0,2-3`; None leaves a single worker to
                the kernel and gives each of several a CPU of its own, where there are enough.
            verify_checksums: drop datagrams whose UDP checksum is wrong as `bad_checksum`; False
                relays them, with a valid one (`packet` only: for `udp` the kernel decides).
            hosts: of an output's host name, send to the `first` of its addresses or to `all`.

        Raises:
            RuleError: rule text that cannot be read; its `problems` names all of them.
            ValueError: an ingress, a number of workers or of bytes, CPUs or hosts that cannot be.
        """
        self._running: ActiveRules | None = None
        self._life = Lifecycle()
        self._settings = RelaySettings.checked(
            ingress=ingress,
            workers=workers,
            buffer_bytes=buffer_bytes,
            cpus=cpus,
            verify_checksums=verify_checksums,
            hosts=hosts,
        )
        self._candidate = CandidateRules(rules)
        self._retries = Retries(self, Relay._finish_rules)

    def open(self, *, rights_end: bool = False) -> None:
        """Check the rules against this host and open their sockets, with the caller's rights.

        Nothing is received before `start`, so that a program may give up rights in between.
        Rules whose interface is missing or down wait for it; `warnings` names them. Twice is
        once.

        Args:
            rights_end: whether rights are given up before `start`. The `packet` ingress then
                opens a few spare sockets, for interfaces that come, or come again, afterwards.

        Raises:
            RuleError: rules that this host cannot serve; `problems` names everything.
            InterfaceError: the kernel refused an interface or an address.
            RightsError: a capability is missing; the text names it.
        """
        with self._life.locked():
            self._life.check_usable()
            if self._running is not None:
                return
            rules = self._candidate.rules
        names = self._names().look_up(rules)
        with self._life.locked():
            self._life.check_usable()
            if self._running is None:  # as another thread may have made it, meanwhile
                self._running = ActiveRules.open(
                    self._settings, self._candidate, names, has_spares=rights_end
                )

    def start(self) -> None:
        """Start to relay; opens first where that was not done. Twice is once.

        From here on the relay follows its interfaces, in a thread that begins with the caller's
        rights and network namespace.

        Raises:
            RightsError: the kernel refuses io_uring; the text names the sysctl.
            EngineError: the engine did not come up; the text says why.
            McrError: the relay was stopped; it cannot start again.
        """
        with self._life.locked():
            self._life.check_startable()
        self.open()
        with self._life.locked():
            self._life.check_startable()
            if not self._life.is_started:
                core = self._opened().core
                self._life.is_started = True
                core.start()
                self._retry()

    def stop(self) -> None:
        """Stop to relay; the counters stay readable until `close`. Twice is once."""
        with self._life.locked():
            self._life.check_usable()
            self._life.is_stopped = True
            self._retries.end()
            if self._running is not None:
                self._running.core.stop()

    def close(self) -> None:
        """Stop and give everything back. Twice is once.

        Raises:
            McrError: called in a process forked from the relay's own.
        """
        with self._life.locked():
            self._retries.end()
            running = self._running
            if running is not None:
                # First: cut short by an exception of a signal handler, `close` can be called again.
                running.core.stop()
                self._candidate = CandidateRules(running.rules)
            self._running, self._life.is_closed = None, True

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
        with self._life.locked():
            core = self._opened().core
            if not self._life.is_started:
                raise McrError("the relay was not started; there is nothing to wait for")
        return core.wait(None if timeout_s is None else min(timeout_s, threading.TIMEOUT_MAX))

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, oldest first."""
        with self._life.locked():
            return self._rules.rules

    def add_rule(self, rule: Rule | str) -> Rule:
        """Add a rule; when this returns, every worker has it. Other rules do not notice.

        A rule that runs already is refused: within one program it is a mistake. `replace_rules`
        takes it and leaves it as it is, as a daemon does.

        Returns:
            The rule, parsed where it was text.

        Raises:
            RuleError: a rule that this host or another rule does not allow; nothing has changed.
            InterfaceError, RightsError: as in `open`; nothing has changed.
        """
        (added,) = parse_rules([rule])
        names = self._names_for([added])
        with self._life.locked():
            self._change(remove=[], add=[added], names=names)
            return added

    def remove_rule(self, rule: Rule | str) -> None:
        """Remove a rule, given as a value, or by its id or its name.

        Raises:
            RuleError: there is no such rule.
        """
        with self._life.locked():
            self._change(remove=[self._find(rule)], add=[], names=self._names())

    def disable_rule(self, rule: Rule | str) -> None:
        """Let a rule, given as a value or by its id or its name, take nothing until it is enabled.

        Its sockets stay open and its counters stay; other rules do not notice. What only a disabled
        rule would have taken is counted on its interface as `disabled`. The rule stays disabled
        where `replace_rules` or `resolve_hosts` keeps it. Twice is once.

        Raises:
            RuleError: there is no such rule.
            EngineError: the engine has ended.
        """
        self._set_enabled(rule, enabled=False)

    def enable_rule(self, rule: Rule | str) -> None:
        """Let a disabled rule take datagrams again; its counters go on. Twice is once.

        Raises:
            RuleError: there is no such rule.
            EngineError: the engine has ended.
        """
        self._set_enabled(rule, enabled=True)

    def replace_rules(self, rules: Iterable[Rule | str]) -> None:
        """Make these the rules, all or nothing; rules that stay keep their counters and flow.

        Raises:
            RuleError, InterfaceError, RightsError: as in `add_rule`; nothing has changed.
        """
        wanted = parse_rules(rules)
        names = self._names_for(wanted)
        with self._life.locked():
            self._change(remove=[rule.id for rule in self.rules], add=wanted, names=names)

    def resolve_hosts(self) -> tuple[HostChange, ...]:
        """Look the host names of all outputs up again and follow what has changed, all or nothing.

        A rule whose names have the same addresses as before is not touched; one that follows
        starts its counters anew. A name that does not resolve keeps its addresses. The lookups
        hold up neither datagrams nor other threads.

        Returns:
            The names that have other addresses now, and those that do not resolve.

        Raises:
            RuleError, InterfaceError, RightsError: as in `add_rule`; nothing has changed.
            McrError: the relay is not open.
        """
        with self._life.locked():
            known = self._opened().answers
        answers, changes = resolve_again(known, self._settings.hosts)
        changed = {name for name, addresses in answers.items() if known[name] != addresses}
        if changed:
            with self._life.locked():
                self._life.check_changeable()
                running = self._opened()
                running.follow(
                    changed, HostResolver(self._settings.hosts, {**running.answers, **answers})
                )
                self._retry()
        return changes

    def stats(self) -> Stats:
        """Return one consistent reading of all counters.

        Raises:
            McrError: the relay is not open.
        """
        with self._life.locked():
            return self._opened().stats()

    @property
    def error(self) -> str | None:
        """Why the engine stopped by itself; None while all is well."""
        with self._life.locked():
            self._life.check_usable()
            return None if self._running is None else self._running.core.error

    @property
    def ingress(self) -> IngressChoice:
        """How datagrams are received; once open it is `packet` or `udp`, never `auto`."""
        with self._life.locked():
            self._life.check_usable()
            return self._settings.ingress if self._running is None else self._running.core.ingress

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know though it works, one sentence each."""
        with self._life.locked():
            return self._rules.warnings

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
        """Close, also where an exception of a signal handler cuts that short."""
        try:
            self.close()
        except BaseException:
            self.close()
            raise

    def __del__(self) -> None:
        """Warn about a relay that was opened and never closed; a forked child owns nothing."""
        running = getattr(self, "_running", None)
        if running is not None and self._life.is_own:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=1)
            self._retries.end()
            running.core.stop()

    def __repr__(self) -> str:
        """State and size, without taking a lock."""
        running = self._running
        state = "closed" if self._life.is_closed else "new" if running is None else "open"
        count = len(self._candidate if running is None else running)
        return f"<mcr.Relay {state}, {count} rules>"

    @property
    def _rules(self) -> CandidateRules | ActiveRules:
        """The rules, in a core or not yet; McrError once the relay is closed."""
        self._life.check_usable()
        return self._candidate if self._running is None else self._running

    def _names(self) -> HostResolver:
        """The host names of the running rules; others are not asked for yet."""
        with self._life.locked():
            return HostResolver(self._settings.hosts, self._rules.answers)

    def _names_for(self, rules: Iterable[Rule]) -> HostResolver:
        """Look up what rules need, without the lock: a slow server must not hold up `stats`."""
        return self._names().look_up(() if self._running is None else rules)

    def _change(self, *, remove: list[str], add: Iterable[Rule], names: HostResolver) -> None:
        self._life.check_changeable()
        if self._running is None:
            self._candidate.change(remove=remove, add=add)
        else:
            try:
                self._running.change(remove=remove, add=add, names=names)
                self._retry()
            except BaseException:  # of a signal handler, perhaps behind the change
                self._retry()
                raise

    def _retry(self) -> None:
        """Have tried again what waits, once the relay has started: before, it has one thread."""
        if self._life.is_started and not self._life.is_stopped and self._opened().unfinished:
            self._retries.begin()

    def _finish_rules(self) -> bool:
        """Try once what waits; whether something still does."""
        with self._life.locked():
            running = self._running
            if running is None or self._life.is_stopped or not running.unfinished:
                return False
            waiting, names = running.unfinished, self._names()
        answers = names.look_up(waiting).known(waiting)
        with self._life.locked():
            if self._running is not running or self._life.is_stopped:
                return False
            running.finish(HostResolver(self._settings.hosts, {**running.answers, **answers}))
            return bool(running.unfinished)

    def _set_enabled(self, rule: Rule | str, *, enabled: bool) -> None:
        with self._life.locked():
            self._life.check_changeable()
            self._rules.set_enabled(self._find(rule), enabled)

    def _find(self, rule: Rule | str) -> str:
        found = self._rules.find(rule)
        if found is None:
            raise RuleError([("rule", f"there is none with the id or name {str(rule)!r}")])
        return found

    def _opened(self) -> ActiveRules:
        self._life.check_usable()
        if self._running is None:
            raise McrError("the relay is not open; use it in a with statement, or call start()")
        return self._running
