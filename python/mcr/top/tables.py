"""The tables of `mcr top`: which columns each has, and the text of a row once it is on the screen.

Pure. No cell can move a terminal's cursor, and none is read as markup.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from ..protocol.results import RuleOutputInfo
from ..protocol.selection import RECENT_S, AnyRule, has_problem, label
from ..protocol.summary import bits_text, endpoint_text, time_text
from ..stats import ClassStats, FlowStats, InterfaceStats, OutputStats, Rate, RuleStats

T = TypeVar("T")
_NO_RATE = Rate(0, 0, 0)
_SENTENCE = 28  # with this many columns a state is a sentence


class Column(NamedTuple):
    """One column of a table."""

    heading: str
    width: int
    """In characters; the least one if the column grows."""
    is_number: bool = False
    share: int = 0
    """How much of the room that is left the column takes, relative to others."""


@dataclass(frozen=True, slots=True)
class TableContent(Generic[T]):
    """The columns and rows of a table; a row becomes text only where it is shown."""

    columns: Sequence[Column]
    rows: Sequence[T]
    key: Callable[[T], str]
    """What a row is about, the same in the next reading."""
    opens: Callable[[T], str]
    """The id of what Enter opens, such as the rule of a row; empty if nothing."""
    cells: Callable[[T, Sequence[int]], Sequence[str]]
    """The texts of a row, for columns of these widths."""
    style: Callable[[T], str]
    """How a row looks."""
    empty: str
    """What is shown without rows."""


class OutputRow(NamedTuple):
    """An output, and its rule."""

    rule: AnyRule
    number: int
    output: OutputStats | RuleOutputInfo


class DropRow(NamedTuple):
    """What was dropped in one place for one reason."""

    place: str
    reason: str
    drops: int
    pps: float


class ClassRow(NamedTuple):
    """A class of traffic, and what it sends and loses now."""

    stats: ClassStats
    sent_pps: float
    lost_pps: float


def rules_table(
    rules: Sequence[AnyRule],
    now: float,
    trend_bars: Callable[[str, int], str],
    missing: Mapping[str, int],
    empty: str,
) -> TableContent[AnyRule]:
    """Rules with their rates and states.

    Args:
        rules: the rules to show, in their order.
        now: the Unix time of the counters.
        trend_bars: draws the rates of the last seconds of a rule, by its id, in so many letters.
        missing: how many numbers are missing in the flows of a rule, by its id; empty if numbers
            are not read.
        empty: what is shown without rules.
    """
    has_latency = any(isinstance(rule, RuleStats) and rule.latency for rule in rules)

    def cells(rule: AnyRule, widths: Sequence[int]) -> Sequence[str]:
        rate = _rate(rule)
        state = rule.state if widths[-1] >= _SENTENCE else state_words(rule, now)
        return (
            label(rule),
            f"{rate.pps:.0f}",
            bits_text(rate.bits_per_s),
            f"{rate.dropped_pps:.0f}",
            *([_p99(rule)] if has_latency else []),
            *([_count(missing.get(rule.id))] if missing else []),
            trend_bars(rule.id, widths[-2]),
            state,
        )

    more = has_latency + bool(missing)
    columns = (
        Column("rule", (19, 15, 12)[more], share=1),
        Column("in/s", 8 - more // 2, is_number=True),
        Column("rate", 12 - more // 2, is_number=True),
        Column("lost/s", 7 - more // 2, is_number=True),
        *([Column("p99", 8, is_number=True)] if has_latency else []),
        *([Column("missing", 7, is_number=True)] if missing else []),
        Column("trend", (12, 8, 6)[more]),
        Column("state", 16, share=3),
    )
    return TableContent(columns, rules, _id, _id, cells, lambda rule: rule_style(rule, now), empty)


def outputs_table(rules: Iterable[AnyRule], *, with_rule: bool = True) -> TableContent[OutputRow]:
    """The outputs of rules: what each sends and loses, and why.

    Args:
        rules: their rules, in the order to show.
        with_rule: name the rule of each; else the table says how much was sent.
    """
    rows = [OutputRow(rule, *each) for rule in rules for each in enumerate(_outputs(rule))]

    def cells(row: OutputRow, _widths: Sequence[int]) -> Sequence[str]:
        rate, sent, lost_rate, lost, why = _sending(row.output)
        if with_rule:
            return (label(row.rule), row.output.output, rate, lost_rate, lost, why)
        return (row.output.output, rate, sent, lost_rate, lost, why)

    columns = (
        *([Column("rule", 12, share=1)] if with_rule else []),
        Column("output", 20, share=1),
        Column("sent/s", 7, is_number=True),
        *([] if with_rule else [Column("sent", 12, is_number=True)]),
        Column("lost/s", 6, is_number=True),
        Column("lost", 7, is_number=True),
        Column("why", 23, share=2),
    )
    return TableContent(
        columns,
        rows,
        lambda row: f"{row.rule.id}/{row.number}",
        lambda row: row.rule.id,
        cells,
        _output_style,
        "no outputs",
    )


def flows_table(
    flows: Sequence[FlowStats], rules: dict[str, AnyRule], empty: str
) -> TableContent[FlowStats]:
    """Who sends to which rule, and how many numbers are missing in what came."""

    def cells(flow: FlowStats, _widths: Sequence[int]) -> Sequence[str]:
        rate = flow.rate_1s or _NO_RATE
        rule = rules.get(flow.rule)
        return (
            flow.rule if rule is None else label(rule),
            endpoint_text(flow.source, flow.source_port),
            endpoint_text(flow.group, flow.port),
            f"{rate.pps:.0f}",
            bits_text(rate.bits_per_s),
            str(flow.datagrams),
            _count(None if flow.sequence is None else flow.sequence.missing),
        )

    columns = (
        Column("rule", 11, share=2),
        Column("from", 15, share=1),
        Column("to", 15, share=1),
        Column("in/s", 6, is_number=True),
        Column("rate", 11, is_number=True),
        Column("datagrams", 9, is_number=True),
        Column("missing", 7, is_number=True),
    )

    def style(flow: FlowStats) -> str:
        return "yellow" if flow.sequence is not None and flow.sequence.missing else ""

    return TableContent(columns, flows, _flow_key, lambda flow: flow.rule, cells, style, empty)


def drops_table(rows: Sequence[DropRow]) -> TableContent[DropRow]:
    """What interfaces and outputs dropped, by reason."""

    def cells(row: DropRow, _widths: Sequence[int]) -> Sequence[str]:
        return (row.place, row.reason, f"{row.pps:.0f}", str(row.drops))

    columns = (
        Column("where", 20, share=1),
        Column("reason", 24, share=1),
        Column("drops/s", 10, is_number=True),
        Column("drops", 14, is_number=True),
    )
    return TableContent(
        columns,
        rows,
        lambda row: f"{row.place} {row.reason}",
        lambda _: "",
        cells,
        lambda row: "red" if row.pps else "",
        "nothing was dropped",
    )


def classes_table(rows: Sequence[ClassRow], empty: str) -> TableContent[ClassRow]:
    """What the rules of each class send and lose, the highest priority first."""

    def cells(row: ClassRow, _widths: Sequence[int]) -> Sequence[str]:
        own = row.stats
        return (
            own.name,
            str(own.priority),
            str(own.weight),
            str(own.rules),
            f"{row.sent_pps:.0f}",
            f"{row.lost_pps:.0f}",
            str(own.sent),
            str(own.class_limited),
        )

    columns = (
        Column("class", 12, share=1),
        Column("priority", 8, is_number=True),
        Column("weight", 6, is_number=True),
        Column("rules", 5, is_number=True),
        Column("sent/s", 7, is_number=True),
        Column("lost/s", 6, is_number=True),
        Column("sent", 10, is_number=True),
        Column("class_limited", 13, is_number=True),
    )
    return TableContent(
        columns,
        rows,
        lambda row: row.stats.name,
        lambda _: "",
        cells,
        lambda row: "red" if row.lost_pps else "",
        empty,
    )


def drop_counts(
    interfaces: Iterable[InterfaceStats], rules: Iterable[AnyRule]
) -> Counter[tuple[str, str]]:
    """What was dropped, by place and reason: each interface, and all outputs together.

    Has reasons for which nothing was dropped, too: what begins to be dropped has a reading before.
    """
    counts = Counter[tuple[str, str]]()
    for interface in interfaces:
        for reason, count in interface.dropped.items():
            counts[interface.name, reason] += count
        counts[interface.name, "kernel_dropped_frames"] += interface.kernel_dropped_frames
    for rule in rules:
        for output in rule.outputs if isinstance(rule, RuleStats) else ():
            for reason, count in output.dropped.items():
                counts["outputs", reason] += count
    return counts


def state_words(rule: AnyRule, now: float) -> str:
    """The state of a rule in a word, with another one for what its outputs suffer."""
    words: list[str] = [rule.state_code or "joined"]
    outputs = _outputs(rule)
    if any(each.parked for each in outputs):
        words.append("parked")
    elif any(each.last_loss and now - each.last_loss.at < RECENT_S for each in outputs):
        words.append("loses")
    elif any(each.last_refused and now - each.last_refused < RECENT_S for each in outputs):
        words.append("refused")
    return ", ".join(words)


def rule_style(rule: AnyRule, now: float) -> str:
    """Red for alarms and losses, as in other views, yellow for what else is wrong."""
    if rule.alarms or _rate(rule).dropped_pps:
        return "red"
    return "yellow" if has_problem(rule, now) else ""


def _p99(rule: AnyRule) -> str:
    latency = rule.latency if isinstance(rule, RuleStats) else None
    return "" if latency is None or latency.p99_us is None else time_text(latency.p99_us)


def missing_numbers(flows: Iterable[FlowStats]) -> dict[str, int]:
    """How many numbers are missing in the flows of each rule of which some have any."""
    found: dict[str, int] = {}
    for flow in flows:
        if flow.sequence is not None and flow.sequence.missing is not None:
            found[flow.rule] = found.get(flow.rule, 0) + flow.sequence.missing
    return found


def _count(count: int | None) -> str:
    return "" if count is None else str(count)


def _rate(rule: AnyRule) -> Rate:
    return (rule.rate_1s if isinstance(rule, RuleStats) else None) or _NO_RATE


def _outputs(rule: AnyRule) -> Sequence[OutputStats | RuleOutputInfo]:
    return rule.outputs


def _id(rule: AnyRule) -> str:
    return rule.id


def _flow_key(flow: FlowStats) -> str:
    return f"{flow.rule} {flow.source} {flow.source_port} {flow.group} {flow.port}"


def _sending(output: OutputStats | RuleOutputInfo) -> tuple[str, str, str, str, str]:
    if not isinstance(output, OutputStats):
        return "0", "0", "0", "0", output.parked or ""
    rate = output.rate_1s or _NO_RATE
    reasons = (f"{reason} {count}" for reason, count in output.dropped.items() if count)
    why = [*([output.parked] if output.parked else []), *reasons]
    why += [f"refused {output.refused}"] if output.refused else []
    sent, lost = str(output.sent), str(output.lost)
    return f"{rate.pps:.0f}", sent, f"{rate.dropped_pps:.0f}", lost, ", ".join(why)


def _output_style(row: OutputRow) -> str:
    rate = row.output.rate_1s if isinstance(row.output, OutputStats) else None
    if rate is not None and rate.dropped_pps:
        return "red"
    return "yellow" if row.output.parked else ""
