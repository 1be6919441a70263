"""`Relay`: the public class of a relay in this process.

Serializes the calls of several threads. `lifecycle` decides which calls are permitted now, and
`active_rules` makes changes. Sockets, threads and datagrams belong to the native engine.
"""

import warnings
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from ..choices import Egress, Hosts, IngressChoice, Offload
from ..errors import McrError
from ..rules import Output, Rule, parse_rules
from ..rules.edit import Options, OutputRef, RuleEdit
from ..rules.expectation import Expectation
from ..rules.host_change import HostChange
from ..rules.hostnames import HostResolver, resolve_again
from ..rules.shaping import InterfaceRate, Shaping, TrafficClass
from ..time_limit import time_limit
from .active_rules import ActiveRules
from .candidate_rules import CandidateRules
from .relay_shaping import RelayShaping
from .retries import Retries
from .settings import BUFFER_BYTES, RelaySettings


class Relay(RelayShaping):
    """A multicast relay inside this process.

    Use it as a context manager, or call `open`, `start` and `close`. All methods are thread-safe.
    The engine runs in separate threads, which handle datagrams without the interpreter's lock.

    A signal handler may raise an exception at any point, as Ctrl-C raises `KeyboardInterrupt`. A
    change (such as `add_rule`) that it interrupts was made completely or not at all; `rules` and
    `stats().rules` show which, and the relay stays usable.

    Example:
        with mcr.Relay("239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001") as relay:
            relay.wait()
    """

    def __init__(
        self,
        *rules: Rule | str,
        ingress: IngressChoice = "auto",
        egress: Egress = "auto",
        offload: Offload = "off",
        workers: int = 1,
        buffer_bytes: int = BUFFER_BYTES,
        cpus: Iterable[int] | str | None = None,
        verify_checksums: bool = True,
        flows: bool = False,
        latency: bool = False,
        hosts: Hosts = "first",
        expect: Expectation | str | None = None,
        classes: Iterable[TrafficClass] = (),
        interface_rates: Iterable[InterfaceRate] = (),
    ) -> None:
        """Parse the rules; open nothing yet.

        Args:
            rules: the rules, as values or text; they can be changed later.
            ingress: `packet` (AF_PACKET, CAP_NET_RAW), `udp` (sockets), `auto`: packet if allowed.
            egress: `socket` (UDP sockets), `xdp` (AF_XDP sockets, needs CAP_NET_RAW; refuses a rule
                that cannot use one), or `auto`: per output, xdp where it is possible and faster.
            offload: `auto` has the kernel relay the rules that it can, unseen by other programs
                (XDP; needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN). `require` refuses a rule that
                the kernel cannot relay; `off` has the engine relay all.
            workers: engine threads, 1 to 256.
            buffer_bytes: receive buffers of each worker, 1 MiB to 1 TiB. Beside them, each of the
                first four interfaces with GRO off has a ring of half of this.
            cpus: the CPU of each worker, as numbers or as `0,2-3`. By default the kernel places a
                single worker, and each of several has its own CPU if there are enough.
            verify_checksums: drop datagrams whose UDP checksum is wrong as `bad_checksum`; False
                relays them, with a valid one (`packet` only: for `udp` the kernel decides).
            flows: count the flows of each rule, for `flows()`.
            latency: measure how long the datagrams of each rule take (`RuleStats.latency`).
            hosts: whether copies go to the `first` address of an output's host name or to `all`.
            expect: what the rules expect that say nothing, such as ``2s+1000pps``.
            classes: the classes of traffic beside ``default``, or with another one.
            interface_rates: the most that the outputs on interfaces send, shared by class.

        Raises:
            RuleError: invalid rule text; `problems` has all problems.
            ArgumentError: another argument is out of its range; the text names it.
        """
        settings = RelaySettings.checked(
            ingress=ingress,
            egress=egress,
            offload=offload,
            workers=workers,
            buffer_bytes=buffer_bytes,
            cpus=cpus,
            verify_checksums=verify_checksums,
            flows=flows,
            latency=latency,
            hosts=hosts,
            expect=expect,
        )
        candidate = CandidateRules(rules, Shaping.of(classes, interface_rates))
        super().__init__(settings, candidate, Retries(self, Relay._finish_rules))

    def open(self, *, rights_end: bool = False) -> None:
        """Check the rules against this host and open their sockets, with the caller's rights.

        Nothing is received before `start`, so that a program can give up rights in between.
        Rules whose interface is missing or down wait for it; `warnings` names them. Idempotent.

        Args:
            rights_end: whether rights are given up before `start`. The `packet` ingress then
                opens a few spare sockets, for interfaces that appear or are recreated afterwards.

        Raises:
            RuleError: the rules cannot be used on this host; `problems` has all problems.
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
            if self._running is None:  # another thread may have opened it meanwhile
                self._running = ActiveRules.open(
                    self._settings, self._candidate, names, has_spares=rights_end
                )

    def start(self) -> None:
        """Open the relay, unless it is open, and start to relay. Idempotent.

        From now on the relay follows changes of its interfaces, in a thread that inherits the
        caller's rights and network namespace.

        Raises:
            EngineError: the engine did not start; the text says why.
            McrError: the relay was stopped; it cannot start again.
        """
        with self._life.locked():
            self._life.check_startable()
        self.open()
        with self._life.locked():
            self._life.check_startable()
            if not self._life.is_started:
                core = self._opened().core
                self._life.begin()
                core.start()
                self._retry()

    def stop(self) -> None:
        """Stop relaying; the counters stay readable until `close`. Idempotent."""
        with self._life.locked():
            self._life.check_usable()
            self._life.is_stopped = True
            self._retries.end()
            self._events.end()
            if self._running is not None:
                self._running.core.stop()

    def close(self) -> None:
        """Stop, and release all resources. Idempotent.

        Raises:
            McrError: called in a forked child; only the process of the relay can close it.
        """
        with self._life.locked():
            self._retries.end()
            self._events.end()
            running = self._running
            if running is not None:
                # First, so that `close` can be repeated if a signal handler interrupts it.
                running.core.stop()
                self._candidate = CandidateRules(running.rules, running.shaping)
            self._running, self._life.is_closed = None, True

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the relay is stopped; Ctrl-C ends the wait.

        Args:
            timeout_s: the longest time to wait, in seconds, at least 0; None for no limit.

        Returns:
            True if `stop` or `close` was called, False after the time limit.

        Raises:
            EngineError: the engine failed; the text says why.
            McrError: the relay was not started.
            ArgumentError: `timeout_s` is negative or not a number.
        """
        limit_s = time_limit(timeout_s)
        with self._life.locked():
            core = self._opened().core
            if not self._life.is_started:
                raise McrError("the relay was not started; there is nothing to wait for")
        return core.wait(limit_s)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, oldest first."""
        with self._life.locked():
            return self._rules.rules

    def add_rule(self, rule: Rule | str) -> Rule:
        """Add a rule; return when all workers relay it. Other rules are not affected.

        Adding a rule twice is an error here, since it is a mistake within one program.
        `replace_rules` accepts a known rule and leaves it as it is.

        Returns:
            The parsed rule.

        Raises:
            RuleError: the rule is invalid on this host or conflicts with others; nothing has
                changed.
            InterfaceError, RightsError: as in `open`; nothing has changed.
        """
        (added,) = parse_rules([rule])
        names = self._names_for([added])
        with self._life.locked():
            self._change(remove=[], add=[added], names=names)
            return added

    def remove_rule(self, rule: Rule | str) -> None:
        """Remove a rule, given as a value or by its id or name.

        Raises:
            RuleError: there is no such rule.
        """
        with self._life.locked():
            self._change(remove=[self._find(rule)], add=[], names=self._names())

    def disable_rule(self, rule: Rule | str) -> None:
        """Disable a rule, given as a value or by its id or name. Idempotent.

        It keeps its sockets and counters; other rules are not affected. Datagrams that only a
        disabled rule would have matched count on the interface as `disabled`. The rule stays
        disabled if `replace_rules` or `resolve_hosts` keeps it.

        Raises:
            RuleError: there is no such rule.
            EngineError: the engine has ended.
        """
        self._set_enabled(rule, enabled=False)

    def enable_rule(self, rule: Rule | str) -> None:
        """Enable a disabled rule again; its counters continue. Idempotent.

        Raises:
            RuleError: there is no such rule.
            EngineError: the engine has ended.
        """
        self._set_enabled(rule, enabled=True)

    def edit_rule(
        self,
        rule: Rule | str,
        options: Options = "",
        *,
        set_outputs: Mapping[OutputRef, Options] | None = None,
        add_outputs: Iterable[Output | str] = (),
        remove_outputs: Iterable[OutputRef] = (),
    ) -> Rule:
        """Edit a rule, given as a value or by its id or name, while it relays.

        Its id, its counters and all that is not named stay; an output with other options keeps its
        counters and gets a new socket. Outputs are named by their numbers, from 1 as listed before
        the edit, or by their text. Options are text such as ``ttl=16,dscp=46``, where ``default``
        takes one back, or a mapping of constructor arguments, where None does.

        Args:
            rule: the rule.
            options: its name or expectation, such as ``expect=2s``.
            set_outputs: other options by outputs.
            add_outputs: further outputs.
            remove_outputs: outputs to remove.

        Returns:
            The rule afterwards.

        Raises:
            RuleError: there is no such rule, or the edit is invalid; nothing has changed.
            InterfaceError, RightsError: as in `open`; nothing has changed.
        """
        edit = RuleEdit.of(
            options,
            set_outputs=set_outputs,
            add_outputs=add_outputs,
            remove_outputs=remove_outputs,
        )
        with self._life.locked():
            before = self._rule(self._find(rule))
        names = self._names_for([edit.apply(before).rule] if edit.needs_names else [])
        with self._life.locked():
            rule_id = self._find(before)
            self._life.check_changeable()
            if self._running is None:
                self._candidate.edit(rule_id, edit)
            else:
                try:
                    self._running.edit(rule_id, edit, names)
                finally:  # a signal handler may raise after the edit was made
                    self._retry()
            return self._rule(rule_id)

    def replace_rules(self, rules: Iterable[Rule | str]) -> None:
        """Replace all rules, or change nothing; rules that stay keep relaying and their counters.

        So do the outputs that a new rule has in common with a removed one with the same input. A
        rule that was edited to be one of these is the same rule.

        Raises:
            RuleError, InterfaceError, RightsError: as in `add_rule`; nothing has changed.
        """
        wanted = parse_rules(rules)
        names = self._names_for(wanted)
        with self._life.locked():
            self._change(remove=[rule.id for rule in self.rules], add=wanted, names=names)

    def resolve_hosts(self) -> tuple[HostChange, ...]:
        """Resolve the host names of all outputs again; send to all new addresses or to none.

        A rule whose addresses are unchanged is not affected, and in a changed one the counters of
        outputs with another address restart from 0. A name that does not resolve keeps its
        addresses. The lookups delay neither datagrams nor other threads.

        Returns:
            The names whose addresses have changed, and those that do not resolve.

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
        self._events.log_hosts(changes)
        return changes

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
        """Close, even if an exception of a signal handler interrupts the first attempt."""
        try:
            self.close()
        except BaseException:
            self.close()
            raise

    def __del__(self) -> None:
        """Warn about a relay that was not closed; a forked child does not own it."""
        running = getattr(self, "_running", None)
        if running is not None and self._life.is_own:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=1)
            self._retries.end()
            self._events.end()
            running.core.stop()

    def __repr__(self) -> str:
        """Show the state and the number of rules, without waiting for a lock."""
        running = self._running
        state = "closed" if self._life.is_closed else "new" if running is None else "open"
        count = len(self._candidate if running is None else running)
        return f"<mcr.Relay {state}, {count} rules>"

    def _rule(self, rule_id: str) -> Rule:
        return next(each for each in self._rules.rules if each.id == rule_id)

    def _names(self) -> HostResolver:
        """The resolved host names of the running rules."""
        with self._life.locked():
            return HostResolver(self._settings.hosts, self._rules.answers)

    def _names_for(self, rules: Iterable[Rule]) -> HostResolver:
        """Resolve the names in rules without the lock: a slow server must not delay `stats`."""
        return self._names().look_up(() if self._running is None else rules)

    def _change(self, *, remove: list[str], add: Iterable[Rule], names: HostResolver) -> None:
        self._life.check_changeable()
        if self._running is None:
            self._candidate.change(remove=remove, add=add)
        else:
            try:
                self._running.change(remove=remove, add=add, names=names)
                self._retry()
            except BaseException:  # from a signal handler, possibly after the change was made
                self._retry()
                raise

    def _finish_rules(self) -> bool:
        """Retry the unfinished rules once; return whether some are still unfinished."""
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
            if self._running is not None:
                self._retry()
