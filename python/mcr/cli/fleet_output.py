"""What `mcr fleet` prints for people."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..fleet.status import NodeStatus
from ..protocol.text import printable
from ..rules.model import counted
from .output import moment, span

if TYPE_CHECKING:
    from ..fleet.fleet_plan import FleetPlan
    from ..fleet.rollout import FleetResult, Progress
    from ..fleet.source import StoredText

_SILENT_S = 30.0
Rows = tuple[list[str], list[list[str]], list[str]]


def node_rows(nodes: Iterable[NodeStatus]) -> Rows:
    """A table of nodes: headings, rows, and the style of each."""
    headings = ["NODE", "LABELS", "STATE", "RULES", "PACKETS/S", "LOST/S", "READ", "REPORTED"]
    rows, styles = [], []
    for each in nodes:
        silent = time.time() - each.at > _SILENT_S
        state = "silent" if silent else each.state.replace("_", " ")
        traffic = each.traffic
        rates = ["-", "-"]
        if traffic is not None:
            rates = [f"{traffic.matched_pps:.0f}", f"{traffic.lost_pps:.0f}"]
        labels = ",".join(f"{key}={value}" for key, value in sorted(each.labels.items()))
        read = "never" if each.documents_at is None else _ago(each.documents_at)
        rows.append([each.node, labels, state, str(each.rules), *rates, read, _ago(each.at)])
        styles.append("green" if state == "applied" else "red")
    return headings, rows, styles


def status_lines(status: NodeStatus) -> Iterator[str]:
    """What a node has reported."""
    labels = ", ".join(f"{key}={value}" for key, value in sorted(status.labels.items()))
    yield f"node: {status.node}{f' ({labels})' if labels else ''}"
    yield f"reported: {_ago(status.at)}"
    yield f"state: {status.state.replace('_', ' ')}, {counted(status.rules)}"
    for name, revision in sorted(status.revisions.items()):
        yield f"document: {name}, text {revision}"
    if status.documents_at is not None:
        yield f"documents read: {_ago(status.documents_at)}"
    if status.traffic is not None:
        traffic = status.traffic
        yield (
            f"traffic: {traffic.matched} matched ({traffic.matched_pps:.0f}/s), {traffic.sent}"
            f" sent, {traffic.lost} lost ({traffic.lost_pps:.0f}/s), {traffic.alarms} alarms"
        )
    for problem in status.problems:
        yield f"problem: {problem}"


def history_rows(texts: Iterable["StoredText"]) -> tuple[list[str], list[list[str]]]:
    """A table of revisions."""
    rows = [
        [
            str(each.revision),
            each.name,
            "-" if each.written_at is None else moment(each.written_at),
            f"{len(each.text)} characters",
        ]
        for each in texts
    ]
    return ["REVISION", "DOCUMENT", "WRITTEN", "SIZE"], rows


def show_plan(plan: "FleetPlan") -> None:
    """Print each document and its rules that change."""
    for each in plan.documents:
        print(printable(f"{each.name}: {len(each.added)} added, {len(each.removed)} removed"))
        for sign, rules in (("+", each.added), ("-", each.removed)):
            for rule in rules:
                print(printable(f"  {sign} {rule}"))
        if each.note is not None:
            print(printable(f"  {each.note}"))
    for name in plan.beside:
        print(printable(f"{name}: only the store has it, stays"))
    print(f"{len(plan.documents)} documents change, {len(plan.unchanged)} stay", flush=True)


def show_progress(progress: "Progress") -> None:
    """Print a step of an apply to standard error."""
    counts = f"{progress.done}/{progress.total}"
    print(printable(f"{progress.step} {progress.name} ({counts})"), file=sys.stderr, flush=True)


def show_result(result: "FleetResult") -> None:
    """Print what became of an apply, and why it has stopped."""
    for node, problems in result.refused.items():
        for problem in problems or ("no reason",):
            print(printable(f"{node} refused: {problem}"))
    if result.conflict is not None:
        print(printable(result.conflict))
    for what, names in (
        ("have not answered in time", result.missing),
        ("do not report, and follow when they return", result.silent),
    ):
        if names:
            print(printable(f"{what}: {', '.join(names)}"))
    if result.left:
        print(printable(f"not written: {', '.join(result.left)}"))
    if result.written:
        first = min(result.written.values())
        print(f"to undo this: mcr fleet rollback {first - 1}")
    print(f"{len(result.written)} documents written, {len(result.applied)} nodes have applied them")


def _ago(unix_s: float) -> str:
    return f"{span(max(0.0, time.time() - unix_s))} ago"
