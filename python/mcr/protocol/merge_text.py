"""What the inputs of a merging rule deliver, as text: for reports and `mcr top`."""

from collections.abc import Iterator

from ..stats import LegStats, MergeStats


def merge_lines(merge: MergeStats) -> Iterator[str]:
    """Yield a line for the rule, and one for each input."""
    if merge.active is not None:
        yield f"failover: input {merge.active} is sent, {_times(merge.switches, 'switch')}"
    else:
        restarts = f", {_times(merge.restarts, 'restart')}" if merge.restarts else ""
        yield f"merge: {merge.lost} lost on all inputs{restarts}"
    for number, leg in enumerate(merge.legs, 1):
        yield f"input {number} {leg.input}: {leg.status}, {_counts(leg)}"


def _counts(leg: LegStats) -> str:
    counts = {
        "late": leg.late,
        "duplicate": leg.duplicate,
        "out of sequence": leg.out_of_sequence,
        "missing": leg.missing,
    }
    words = [f"received {leg.received}", f"first {leg.first}"]
    words += [f"{name} {count}" for name, count in counts.items() if count]
    if leg.skew_p50_ms is not None and leg.skew_p99_ms is not None:
        words.append(f"behind by p50 {leg.skew_p50_ms:g} ms, p99 {leg.skew_p99_ms:g} ms")
    return ", ".join(words)


def _times(count: int, noun: str) -> str:
    plural = "es" if noun.endswith("ch") else "s"
    return f"{count} {noun}{'' if count == 1 else plural}"
