"""The table, as text, Markdown and JSON; it only arranges what was measured."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from .sampling import Ratio, Sample
from .scenarios import Kind
from .session import Result
from .targets import Outcome
from .ways import HEADING, REFERENCE, way_rows

WHOLE = (Kind.THROUGHPUT, Kind.SCALING, Kind.LOSSLESS)


@dataclass(frozen=True, slots=True)
class Table:
    """A title, a heading and rows of text."""

    title: str
    heading: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def tables(
    machine: Mapping[str, str], results: Sequence[Result], outcomes: Sequence[Outcome]
) -> list[Table]:
    """Arrange everything; tables without rows are left out."""
    found = [
        Table("Machine", ("", ""), list(machine.items())),
        Table(
            "Results (medians; ratios are medians of pairs of alternating runs)",
            ("scenario", "peer", "value", "unit", "ratio: median (lowest-highest, pairs)", "notes"),
            [row for result in results for row in _result_rows(result)],
        ),
        Table(f"Which way wins when (times {REFERENCE}, copies/s)", HEADING, way_rows(results)),
        Table(
            "Memory of the relay (median VmRSS, MiB)",
            ("scenario", "peer", "before traffic", "after"),
            [row for result in results for row in _memory_rows(result)],
        ),
        Table(
            "Failed",
            ("scenario", "reason"),
            [(result.scenario.name, result.failure) for result in results if result.failure],
        ),
        Table(
            "Not run",
            ("scenario", "peer", "reason"),
            [(r.scenario.name, name, why) for r in results for name, why in r.skipped.items()],
        ),
        Table(
            "Targets",
            ("target", "scenario", "wanted", "measured", "verdict"),
            [
                (
                    o.text,
                    o.scenario,
                    o.bound,
                    "-" if o.measured is None else f"{o.measured:.2f}",
                    o.verdict.value,
                )
                for o in outcomes
            ],
        ),
    ]
    return [table for table in found if table.rows]


def as_text(content: Iterable[Table]) -> str:
    """Lay tables out in columns of a terminal."""
    return "\n".join(_text_table(table) for table in content)


def as_markdown(content: Iterable[Table]) -> str:
    """Write tables as Markdown."""
    parts: list[str] = []
    for table in content:
        rows = [table.heading, tuple("---" for _ in table.heading), *table.rows]
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        parts.append("\n".join([f"## {table.title}", "", *lines, ""]))
    return "\n".join(parts)


def as_json(
    machine: Mapping[str, str], results: Sequence[Result], outcomes: Sequence[Outcome]
) -> str:
    """Give every run, for other programs."""
    content = {
        "machine": dict(machine),
        "scenarios": [_result_object(result) for result in results],
        "targets": [
            {
                "target": o.text,
                "scenario": o.scenario,
                "wanted": o.bound,
                "measured": o.measured,
                "verdict": o.verdict.value,
            }
            for o in outcomes
        ],
    }
    return json.dumps(content, indent=2) + "\n"


def result_lines(result: Result) -> str:
    """Give one scenario's rows, for a look while the bench still runs."""
    if result.failure:
        return f"{result.scenario.name}  failed: {result.failure}"
    return "\n".join("  ".join(cell for cell in row if cell) for row in _result_rows(result))


def _text_table(table: Table) -> str:
    rows = [table.heading, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.heading))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([table.title, *(f"  {line}" for line in lines if line), ""])


def _result_rows(result: Result) -> Iterable[tuple[str, ...]]:
    kind = result.scenario.kind
    for name, samples in result.comparison.samples.items():
        if not samples:
            continue
        ratios = "; ".join(
            _ratio_text(ratio) for ratio in result.comparison.ratios if ratio.subject == name
        )
        value = f"{median(sample.value for sample in samples):,.{0 if kind in WHOLE else 1}f}"
        at_least = ">= " if _seen(samples, "generator_limited") else ""
        yield result.scenario.name, name, at_least + value, kind.value, ratios, _notes(samples)


def _ratio_text(ratio: Ratio) -> str:
    if ratio.median is None:
        return f"no steady pair with {ratio.reference}"
    spread = f"{min(ratio.values):.2f}-{max(ratio.values):.2f}, {len(ratio.values)}"
    return f"{ratio.median:.2f} x {ratio.reference} ({spread})"


def _notes(samples: Sequence[Sample]) -> str:
    notes: list[str] = []
    if _seen(samples, "offered_pps"):
        notes.append(f"offered {_median(samples, 'offered_pps'):,.0f}/s")
    if _seen(samples, "ns_per_copy"):
        notes.append(f"{_median(samples, 'ns_per_copy'):,.0f} ns of processor time a copy")
    if _seen(samples, "p99_us"):
        best = min(sample.details["p99_us"] for sample in samples)
        notes.append(f"p99 {_median(samples, 'p99_us'):.0f} us (best {best:.0f})")
        notes.append(f"max {_median(samples, 'max_us'):.0f} us")
    if _seen(samples, "lost"):
        notes.append(f"lost {100 * _median(samples, 'lost'):.2f} %")
    return ", ".join(notes)


def _memory_rows(result: Result) -> Iterable[tuple[str, ...]]:
    for name, samples in result.comparison.samples.items():
        if samples and _seen(samples, "resident_after_kib"):
            before, after = (
                _median(samples, f"resident_{when}_kib") / 1024 for when in ("before", "after")
            )
            yield result.scenario.name, name, f"{before:.1f}", f"{after:.1f}"


def _median(samples: Sequence[Sample], key: str) -> float:
    return median(sample.details[key] for sample in samples)


def _seen(samples: Sequence[Sample], key: str) -> bool:
    return median(sample.details.get(key, 0) for sample in samples) > 0


def _result_object(result: Result) -> dict[str, object]:
    return {
        "scenario": result.scenario.name,
        "unit": result.scenario.kind.value,
        "runs": {
            name: [{"value": sample.value, **sample.details} for sample in samples]
            for name, samples in result.comparison.samples.items()
        },
        "ratios": [
            {
                "subject": ratio.subject,
                "reference": ratio.reference,
                "median": ratio.median,
                "pairs": list(ratio.values),
                "repeated": ratio.repeated,
            }
            for ratio in result.comparison.ratios
        ],
        "skipped": dict(result.skipped),
        "failure": result.failure,
    }
