"""The command `mcr stats`: the counters of rules, in a report, in lines, or live."""

import json
import sys
import time
from collections import Counter
from dataclasses import replace
from typing import Annotated, NamedTuple, TypeVar

import typer

from ..client import Client, methods
from ..protocol.results import DaemonStats
from ..protocol.selection import StatsOrder, arranged, loses, state_colour
from ..protocol.summary import bits_text, daemon_report, sums_report
from ..stats import Rate, RuleStats, Stats
from .options import AnswerAsJson, SocketOption
from .output import show_table
from .pager import paged
from .remote import connect
from .rule_output import known_rules
from .selection import NoPager, OnlyProblems, SomeRules
from .signals import interrupt_held, until_interrupt

S = TypeVar("S", bound=Stats)


class Arrangement(NamedTuple):
    """Which rules of a reading are shown, and in which order."""

    order: StatsOrder | None
    only_problems: bool

    def of(self, found: S) -> S:
        """The reading with these rules."""
        rules = arranged(found.rules, self.order, only_problems=self.only_problems, now=found.time)
        return replace(found, rules=rules)


def stats(
    rules: SomeRules = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the numbers again every second, until Ctrl-C.")
    ] = False,
    sort: Annotated[
        StatsOrder | None,
        typer.Option(help="The order: the highest rate, most loss or latest datagram first."),
    ] = None,
    only_problems: OnlyProblems = False,
    details: Annotated[
        bool, typer.Option("--details", help="Show each output also where there is no terminal.")
    ] = False,
    no_pager: NoPager = False,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Show what each rule received, sent and lost, and why.

    The numbers are sums over all workers since the daemon or the rule started. A terminal shows
    each output; elsewhere a rule is one line.
    """
    selected = known_rules(rules)
    with connect(socket) as client:
        if watch:
            with until_interrupt():
                _watch(client, selected, Arrangement(sort, only_problems), as_json)
            return
        found = _read(client, selected, Arrangement(sort, only_problems))
    if as_json:
        print(json.dumps(found.as_dict()), flush=True)
        return
    _warn(found)
    with paged(not no_pager):
        if details or sys.stdout.isatty():
            from .terminal_table import as_red  # noqa: PLC0415 -- slow to load

            print(daemon_report(found, as_red), flush=True)
        else:
            print(sums_report(found))
            _show_lines(found)


def _read(client: Client, selected: list[str] | None, how: Arrangement) -> DaemonStats:
    """The counters of the rules to show, with the sums of these, in their order."""
    found = client.request(methods.stats(selected))
    chosen = how.of(found)
    if len(chosen.rules) < len(found.rules):
        # The sums are those of the rules shown, and the order is that of their counters.
        found = client.request(methods.stats([rule.id for rule in chosen.rules]))
        return Arrangement(how.order, only_problems=False).of(found)
    return chosen


def _watch(client: Client, selected: list[str] | None, how: Arrangement, as_json: bool) -> None:
    from .view import INTERVAL_S, open_view  # noqa: PLC0415 -- slow to load

    if as_json:
        while True:
            print(json.dumps(_read(client, selected, how).as_dict()), flush=True)
            time.sleep(INTERVAL_S)

    def read() -> DaemonStats:
        return client.request(methods.stats(selected))

    with open_view(read(), sys.stdout, how.of) as view:
        while True:
            time.sleep(INTERVAL_S)
            latest = read()
            with interrupt_held():
                view.show(latest)


def _warn(found: DaemonStats) -> None:
    for number in found.stale_workers:
        print(
            f"warning: the counters of worker {number} could not be read; its last known counts are"
            " included",
            file=sys.stderr,
        )


def _show_lines(found: DaemonStats) -> None:
    headings = ("id", "name", "in/s", "rate", "matched", "sent", "lost", "rule", "state")
    if found.rules:
        styles = [state_colour(rule, is_losing=loses(rule, found.time)) for rule in found.rules]
        show_table(headings, map(_line, found.rules), styles)


def _line(rule: RuleStats) -> tuple[str, ...]:
    rate = rule.rate_1s or Rate(0, 0, 0)
    lost = sum((Counter(output.dropped) for output in rule.outputs), Counter())
    reasons = ",".join(f"{reason}={count}" for reason, count in lost.items())
    return (
        rule.id,
        rule.name or "-",
        f"{rate.pps:.0f}",
        bits_text(rate.bits_per_s).replace(" ", ""),
        str(rule.matched),
        str(sum(output.sent for output in rule.outputs)),
        f"{rule.lost}{f' ({reasons})' if reasons else ''}".replace(" ", ""),
        rule.rule,
        rule.state,
    )
