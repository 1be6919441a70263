"""The application without a terminal, what it shows, and a client that answers at once."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from zlib import crc32

from tests.support.deadline import PATIENCE_S
from textual.app import App
from textual.pilot import Pilot

from mcr.client.aio import AsyncClient
from mcr.errors import McrError, RuleError
from mcr.protocol.results import DaemonStats, FlowList, Hello, RuleInfo, RuleList, Totals
from mcr.stats import ClassStats, FlowStats, InterfaceStats, OutputStats, Rate, RuleFacts, RuleStats
from mcr.top.app import TopApp
from mcr.top.overview_screen import RuleChoice
from mcr.top.reader import DaemonReader

NOW = 1772420000.0
"""The Unix time of the readings."""
TOTALS = Totals(0, 0, {}, 0, 0, 0, 0)


def rule(name: str, pps: float = 0.0, *, port: int = 5001, **fields: Any) -> RuleStats:  # noqa: ANN401
    """A rule with one output that sends all that matches, unless `fields` say otherwise."""
    text = f"239.1.1.1%eth0:{port},name={name} to 239.2.0.1%eth1:{port}"
    rate = Rate(pps, 8 * 1316 * pps, 0.0)
    count = int(100 * pps)
    output = OutputStats(
        f"239.2.0.1%eth1:{port}", "239.2.0.1", count, count, 0, 0, 0, {}, {}, rate_1s=rate
    )
    state = "flowing from 10.0.0.5" if pps else "joined, no frame seen on eth0"
    made = RuleStats(
        id=f"{crc32(name.encode()):012x}",
        name=name,
        rule=text,
        state=state,
        matched=count,
        matched_bytes=1316 * count,
        outputs=(output,),
        state_code="flowing" if pps else "joined",
        facts=RuleFacts(last_seen=NOW if pps else None),
        rate_1s=rate,
    )
    return replace(made, **fields)


@dataclass
class FakeClient:
    """A daemon whose rules a test sets, and the requests that were made."""

    rules_now: list[RuleStats]
    interfaces: tuple[InterfaceStats, ...] = ()
    flows_now: tuple[FlowStats, ...] = ()
    classes: tuple[ClassStats, ...] = ()
    counts_flows: bool = True
    revision: int = 1
    time: float = NOW
    uptime_s: float = 100.0
    failure: McrError | None = None
    path: Path = Path("/run/mcr/mcr.sock")
    requests: list[list[str] | None] = field(default_factory=list)
    """The rules of each request for counters."""

    async def hello(self) -> Hello:
        """Greet."""
        if self.failure is not None:
            raise self.failure
        return Hello(1, "mcr 0.1.0", 1, self.revision, "packet", 1, 0)

    async def rules(self, which: Sequence[str] | None = None) -> RuleList:
        """All rules, or those with a name."""
        found = [
            RuleInfo(each.id, each.name, each.rule, True, each.state, (), each.state_code)
            for each in self.rules_now
            if which is None or each.name in which
        ]
        if which is not None and not found:
            raise RuleError(f"there is no rule with the id or name {which[0]!r}")
        return RuleList(self.revision, tuple(found))

    async def stats(self, which: Sequence[str] | None = None) -> DaemonStats:
        """All counters, or those of some rules."""
        self.requests.append(None if which is None else list(which))
        chosen = None if which is None else set(which)
        rules = tuple(each for each in self.rules_now if chosen is None or each.id in chosen)
        return DaemonStats(
            self.interfaces,
            rules,
            time=self.time,
            uptime_s=self.uptime_s,
            revision=self.revision,
            totals=TOTALS,
            classes=self.classes,
            stale_workers=(),
        )

    async def flows(self, which: Sequence[str] | None = None, *, limit: int) -> FlowList:
        """The flows of all rules, or of some."""
        found = [each for each in self.flows_now if which is None or each.rule in which]
        return FlowList(self.revision, self.counts_flows, tuple(found[:limit]), len(found))

    async def close(self) -> None:
        """Do nothing."""


def reader_of(client: FakeClient, chosen: Sequence[str] | None = None) -> DaemonReader:
    """A reader of this daemon."""
    return DaemonReader(cast(AsyncClient, client), chosen)


def app_of(client: FakeClient, **choice: Any) -> TopApp:  # noqa: ANN401
    """The application in front of this daemon."""
    return TopApp(reader_of(client), RuleChoice(**choice))


def screen_text(app: App[None]) -> str:
    """What the screen shows, without spaces at the ends of lines."""
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


def colours(app: App[None]) -> set[str]:
    """The names of the colours on the screen, but for the terminal's own."""
    styles = (
        segment.style
        for strip in app.screen._compositor.render_strips()
        for segment in strip
        if segment.style is not None
    )
    shades = (shade for style in styles for shade in (style.color, style.bgcolor) if shade)
    return {shade.name for shade in shades} - {"default"}


async def shows(app: App[None], pilot: Pilot[None], *texts: str) -> str:
    """Wait until the screen contains texts; return all of it."""
    ends_s = time.monotonic() + PATIENCE_S
    while not all(each in screen_text(app) for each in texts):
        assert time.monotonic() < ends_s, f"no {texts} in:\n{screen_text(app)}"
        await pilot.pause(0.02)
    return screen_text(app)
