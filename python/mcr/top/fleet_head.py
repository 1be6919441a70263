"""The first lines of each screen of `mcr fleet top`: the servers, and the sums of all nodes."""

import time

from rich.text import Text

from ..protocol.text import printable
from .fleet_reader import FleetReader
from .head import fitted
from .node_table import node_sums

_LATE_S = 5.0
"""An answer that takes longer is worth a word."""


def fleet_head(reader: FleetReader, width: int) -> Text:
    """Two lines: the servers, or why they do not answer; and the sums of all nodes."""
    read_at = time.strftime("%H:%M:%S", time.localtime(reader.time)) if reader.time else ""
    first = Text(fitted(f"fleet at {printable(reader.servers)}", read_at, width))
    trouble = _trouble(reader)
    second = Text(trouble, style="bold red") if trouble else Text(_sums(reader))
    second.truncate(width, overflow="ellipsis")
    return Text("\n").join([first, second])


def _trouble(reader: FleetReader) -> str:
    if reader.failure is not None:
        return f"{printable(reader.failure)}; trying again"
    if reader.age_s > _LATE_S:
        what = "no answer" if reader.nodes else "waiting for the first answer"
        return f"{what} for {reader.age_s:.0f} s; what is shown is old"
    return ""


def _sums(reader: FleetReader) -> str:
    received, lost, alarms, problems = node_sums(reader.nodes)
    return (
        f"{_count(len(reader.nodes), 'node')}, {problems or 'none'} with a problem; in"
        f" {received:.0f}/s, lost {lost:.0f}/s, {_count(alarms, 'alarm')}"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
