"""What the daemon said last: its rules with their counters, interfaces and flows.

Few rules are read together. Of many, those on the screen are read each time and the others in
turn, so that neither the daemon nor the screen waits for an answer about ten thousand.
"""

import time
from collections.abc import Sequence
from math import inf

from ..client.aio import AsyncClient
from ..errors import McrError, RuleError
from ..protocol.results import FlowList, Hello, RuleInfo
from ..protocol.selection import AnyRule
from ..stats import ClassStats, InterfaceStats
from .trend import RateTrend

RULES_AT_ONCE = 500
"""The most rules in one answer: the screen waits some milliseconds while it is decoded."""
FLOWS = 1000
"""The most flows in one answer."""
_BUSY_S = 0.5  # the time for which one step may keep the daemon busy
_LIST_S = 10.0  # the age at which the list of rules is read again, if it takes a tenth of that


class DaemonReader:
    """The newest readings of a daemon."""

    def __init__(self, client: AsyncClient, chosen: Sequence[str] | None = None) -> None:
        """Connect with the first request.

        Args:
            client: a client of the daemon, or of its socket for observers.
            chosen: only these rules, by id, name or pattern; None means all.
        """
        self.path = client.path
        self.hello: Hello | None = None
        self.rules: dict[str, AnyRule] = {}
        """By id, in their order; a `RuleInfo` where nothing is counted."""
        self.interfaces: dict[str, InterfaceStats] = {}
        self.classes: tuple[ClassStats, ...] = ()
        """The classes of traffic, the highest priority first; none while not all rules are read at
        once."""
        self.flows: FlowList | None = None
        self.failure: str | None = None
        """Why the last request failed; None if it did not."""
        self.time = 0.0
        """The Unix time of the newest counters, by the daemon's clock."""
        self.elapsed_s = 0.0
        """When they were read, in seconds since some moment: the time of day may be set."""
        self._uptime_s = 0.0
        self._chosen = chosen
        self._client = client
        self._listed: dict[str, RuleInfo] = {}
        self._trends: dict[str, RateTrend] = {}
        self._revision = -1
        self._listed_at_s = -inf
        self._list_s = 0.0
        self._answered_at_s = time.monotonic()
        self._next = 0

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    @property
    def age_s(self) -> float:
        """The time since the daemon has answered."""
        return time.monotonic() - self._answered_at_s

    def trend_bars(self, rule_id: str, width: int) -> str:
        """The rates of a rule that were read in the last `width` seconds (`RateTrend.bars`)."""
        return (self._trends.get(rule_id) or RateTrend()).bars(width, self.elapsed_s)

    async def read(self, on_screen: Sequence[str], flows_of: Sequence[str] | None) -> None:
        """Read once: the rules on the screen, others as time permits, and flows.

        Args:
            on_screen: ids of rules.
            flows_of: ids of the rules whose flows are read, None for all rules; empty for none.
        """
        began_s = time.monotonic()
        try:
            self.hello = await self._client.hello()
            if self._is_list_old():
                await self._read_list()
            await self._read_rules([each for each in on_screen if each in self.rules], began_s)
            if flows_of is None or flows_of:
                which = self._chosen if flows_of is None else flows_of
                self.flows = await self._client.flows(which, limit=FLOWS)
        except RuleError as error:  # one was removed since, or all that were chosen
            self._listed_at_s = -inf
            self.failure = str(error)
        except McrError as error:
            self.failure = str(error)
            return
        else:
            self.failure = None
        self._answered_at_s = time.monotonic()

    def _is_list_old(self) -> bool:
        is_other = self.hello is None or self.hello.revision != self._revision
        return is_other or time.monotonic() - self._listed_at_s > max(_LIST_S, 10 * self._list_s)

    async def _read_list(self) -> None:
        """Read which rules there are; counters that are known stay."""
        began_s = time.monotonic()
        try:
            listed = await self._client.rules(self._chosen)
        except RuleError:
            self.rules, self._listed = {}, {}
            raise
        self._listed = {rule.id: rule for rule in listed}
        self.rules = {each: self.rules.get(each, info) for each, info in self._listed.items()}
        self._trends = {each: self._trends.get(each) or RateTrend() for each in self.rules}
        self._revision = listed.revision
        self._listed_at_s = time.monotonic()
        self._list_s = self._listed_at_s - began_s

    async def _read_rules(self, on_screen: Sequence[str], began_s: float) -> None:
        ids = list(self.rules)
        if len(ids) <= RULES_AT_ONCE:
            self.interfaces = {}
            self.classes = await self._read_some(ids)
            return
        self.classes = ()
        if on_screen:
            await self._read_some(on_screen[:RULES_AT_ONCE])
        for _ in range(0, len(ids), RULES_AT_ONCE):
            first = self._next if self._next < len(ids) else 0
            self._next = first + RULES_AT_ONCE
            await self._read_some(ids[first : self._next])
            if time.monotonic() - began_s > _BUSY_S:
                return

    async def _read_some(self, ids: Sequence[str]) -> tuple[ClassStats, ...]:
        """Read these rules; return the classes as far as they use them."""
        is_everything = self._chosen is None and len(ids) == len(self.rules)
        stats = await self._client.stats(None if is_everything else ids)
        self.time = stats.time
        self._advance(stats.uptime_s)
        self.interfaces |= {each.name: each for each in stats.interfaces}
        counted = {rule.id: rule for rule in stats.rules}
        for each in ids:
            rule = counted.get(each)
            self.rules[each] = rule or self._listed[each]
            if rule is not None and rule.rate_1s is not None:
                self._trends[each].add(self.elapsed_s, rule.rate_1s.pps)
        return stats.classes

    def _advance(self, uptime_s: float) -> None:
        passed_s = uptime_s - self._uptime_s
        # A new control process begins at 0.
        self.elapsed_s += passed_s if passed_s >= 0 else uptime_s
        self._uptime_s = uptime_s
