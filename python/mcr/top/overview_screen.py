"""The screen with the tables of all rules, outputs, flows and drops."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import Input, Static

from ..protocol.selection import AnyRule, StatsOrder, arranged, mentions
from .count_rates import CountRates
from .reader import RULES_AT_ONCE, DaemonReader
from .row_table import RowTable
from .table_screen import TABLE_KEYS, TableScreen
from .tables import (
    ClassRow,
    DropRow,
    TableContent,
    classes_table,
    drop_counts,
    drops_table,
    flows_table,
    missing_numbers,
    outputs_table,
    rules_table,
)
from .top_screen import TopScreen, flows_hint

_ORDERS: tuple[StatsOrder | None, ...] = (None, *get_args(StatsOrder))
_VIEWS = ("rules", "outputs", "flows", "drops", "classes")
_OF_RULES = ("rules", "outputs", "flows")
_MANY_RULES = f"not summed above {RULES_AT_ONCE} rules; mcr stats has the classes"


@dataclass
class RuleChoice:
    """Which rules are shown, and in which order; None is oldest first."""

    order: StatsOrder | None = None
    only_problems: bool = False
    text: str = ""

    def of(self, rules: Sequence[AnyRule], now: float) -> tuple[AnyRule, ...]:
        """The rules to show at the Unix time `now`, in their order."""
        found = [rule for rule in rules if mentions(rule, self.text)] if self.text else rules
        return arranged(found, self.order, only_problems=self.only_problems, now=now)

    def __str__(self) -> str:
        """As the screen says it."""
        order = "oldest first" if self.order is None else f"by {self.order}"
        problems = ", only problems" if self.only_problems else ""
        return f"{order}{problems}{f', with {self.text!r}' if self.text else ''}"


class OverviewScreen(TableScreen, TopScreen):
    """One of five tables."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "view('rules')", "rules", show=False),
        Binding("2", "view('outputs')", "outputs", show=False),
        Binding("3", "view('flows')", "flows", show=False),
        Binding("4", "view('drops')", "drops", show=False),
        Binding("5", "view('classes')", "classes", show=False),
        *TABLE_KEYS,
    ]

    def __init__(self, reader: DaemonReader, choice: RuleChoice) -> None:
        """Show the rules of a reader.

        Args:
            reader: the daemon.
            choice: which rules are shown at first.
        """
        super().__init__(reader)
        self._choice = choice
        self._view = "rules"
        self._drop_rates = CountRates[tuple[str, str]]()
        self._drops: list[DropRow] = []
        self._class_rates = CountRates[tuple[str, str]]()
        self._class_rows: list[ClassRow] = []
        self._title = Static(id="view")
        self._table = RowTable(self._content())
        self._filter = Input(placeholder="a name, id, part of a rule or state", id="filter")

    def on_screen(self) -> Sequence[str]:
        """The rules of the visible rows."""
        return self._table.visible_targets()

    def flows_of(self) -> Sequence[str] | None:
        """Those of all rules, if flows are shown, and of the visible rules for their gaps."""
        if self._view == "flows":
            return None
        is_counted = self.reader.flows is None or self.reader.flows.counted
        return self.on_screen() if self._view == "rules" and is_counted else []

    def show_reading(self) -> None:
        """Show what has been read."""
        if self._view == "drops":
            self._count_drops()
        if self._view == "classes":
            self._count_classes()
        self.show_head()
        self._show_table()

    def action_view(self, view: str) -> None:
        """Show another table."""
        self._view = view
        self.show_reading()
        self.post_message(self.Changed())

    def action_sort(self) -> None:
        """Take the next order."""
        self._choice.order = _ORDERS[(_ORDERS.index(self._choice.order) + 1) % len(_ORDERS)]
        self._show_table()

    def action_problems(self) -> None:
        """Show only rules with a problem, or all."""
        self._choice.only_problems = not self._choice.only_problems
        self._show_table()

    def _filter_by(self, text: str) -> None:
        self._choice.text = text

    def _show_table(self) -> None:
        self._table.show(self._content())
        self._show_title()

    def _show_title(self) -> None:
        views = " ".join(
            f"[{n} {each}]" if each == self._view else f" {n} {each} "
            for n, each in enumerate(_VIEWS, start=1)
        )
        chosen = f", {self._choice}" if self._view in _OF_RULES else ""
        self._title.update(Text(f"{views}  {self._table.place}{chosen}"))

    def _content(self) -> TableContent[Any]:
        reader, choice = self.reader, self._choice
        if self._view == "drops":
            return drops_table(self._drops)
        if self._view == "classes":
            empty = "no classes" if len(reader.rules) <= RULES_AT_ONCE else _MANY_RULES
            return classes_table(self._class_rows, empty)
        rules = choice.of(list(reader.rules.values()), reader.time)
        if self._view == "outputs":
            return outputs_table(rules)
        if self._view == "flows":
            ids = {rule.id for rule in rules}
            known = reader.flows.flows if reader.flows else ()
            flows = [each for each in known if each.rule in ids]
            return flows_table(flows, reader.rules, flows_hint(reader, "no flows"))
        empty = "no such rule" if reader.rules else "no rules; add one with mcr rule add"
        missing = missing_numbers(reader.flows.flows if reader.flows else ())
        return rules_table(rules, reader.time, reader.trend_bars, missing, empty)

    def _count_classes(self) -> None:
        """Compare what classes have sent and lost with the reading before."""
        classes = self.reader.classes
        counts = {(each.name, "sent"): each.sent for each in classes}
        counts |= {(each.name, "lost"): each.lost for each in classes}
        rates = self._class_rates.since_last(self.reader.elapsed_s, counts)
        if rates is not None:
            self._class_rows = [
                ClassRow(each, rates[each.name, "sent"], rates[each.name, "lost"])
                for each in classes
            ]

    def _count_drops(self) -> None:
        """Compare what was dropped with the reading before."""
        counts = drop_counts(self.reader.interfaces.values(), self.reader.rules.values())
        rates = self._drop_rates.since_last(self.reader.elapsed_s, counts)
        if rates is not None:
            self._drops = [
                DropRow(*place, count, rates[place])
                for place, count in counts.most_common()
                if count
            ]
