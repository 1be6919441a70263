"""The screen of one rule: its state and rates, its outputs and its flows."""

import time
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Static

from ..protocol.merge_text import merge_lines
from ..protocol.selection import AnyRule, label
from ..protocol.summary import bits_text, bytes_text, latency_text
from ..protocol.text import printable
from ..stats import Rate, RuleStats
from .reader import DaemonReader
from .row_table import RowTable
from .tables import flows_table, outputs_table, rule_style
from .top_screen import TopScreen, flows_hint
from .trend import SECONDS


class RuleScreen(TopScreen):
    """One rule, read each second."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "back"),
        Binding("tab", "app.focus_next", "other table"),
    ]

    def __init__(self, reader: DaemonReader, rule_id: str) -> None:
        """Show a rule of a reader."""
        super().__init__(reader)
        self._rule_id = rule_id
        self._rule = Static(classes="details")
        self._outputs = RowTable(outputs_table([], with_rule=False))
        self._flows = RowTable(flows_table([], {}, ""))

    def compose(self) -> ComposeResult:
        """Head, rule, and its tables."""
        yield self.head
        yield self._rule
        yield self._outputs
        yield self._flows
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Show what is known already."""
        self._outputs.focus()
        self.post_message(self.Changed())
        self.show_reading()

    def on_screen(self) -> Sequence[str]:
        """This rule."""
        return [self._rule_id]

    def flows_of(self) -> Sequence[str] | None:
        """Those of this rule, while there is one."""
        return [self._rule_id] if self._rule_id in self.reader.rules else []

    def show_reading(self) -> None:
        """Show what has been read of the rule."""
        self.show_head()
        rule = self.reader.rules.get(self._rule_id)
        if rule is None:
            self._rule.update("this rule was removed; Escape goes back")
            return
        self._rule.update(self._text(rule))
        self._outputs.show(outputs_table([rule], with_rule=False))
        known = self.reader.flows
        flows = [each for each in known.flows if each.rule == rule.id] if known else []
        hint = flows_hint(self.reader, "no flows")
        self._flows.show(flows_table(flows, self.reader.rules, hint))

    def _text(self, rule: AnyRule) -> Text:
        style = rule_style(rule, self.reader.time)
        lines = [
            Text(f"{printable(label(rule))}  {rule.id}", style="bold"),
            Text(printable(rule.rule)),
            Text(printable(rule.state), style=style),
        ]
        if isinstance(rule, RuleStats):
            rate = rule.rate_1s or Rate(0, 0, 0)
            seen = rule.facts.last_seen
            last = f", last at {time.strftime('%H:%M:%S', time.localtime(seen))}" if seen else ""
            lines.append(
                Text(
                    f"in {rate.pps:.0f}/s, {bits_text(rate.bits_per_s)}; matched {rule.matched}"
                    f" ({bytes_text(rule.matched_bytes)}){last}"
                )
            )
            latency = latency_text(rule)
            lines += [Text(f"latency {latency}")] if latency is not None else []
            merge = () if rule.merge is None else merge_lines(rule.merge)
            lines += [Text(printable(line)) for line in merge]
        bars = self.reader.trend_bars(rule.id, SECONDS)
        return Text("\n").join([*lines, Text(f"{bars}  last {SECONDS} s")])
