"""The live table: readable at every width."""

import io

import pytest
from rich.console import Console

from mcr.cli.table import live_table
from mcr.stats import RuleStats, Stats

STATE = "joined, no frame seen on eth0"
RULE = "10.0.0.5@239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001"


@pytest.mark.parametrize("width", [50, 60, 80, 95, 96, 120, 200])
def test_the_state_keeps_room(width: int) -> None:
    """A sentence stands in a few lines, whatever else the table shows."""
    rule = RuleStats("0" * 12, None, RULE, STATE, 10**9, 10**12, ())
    stats = Stats((), (rule,))
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(live_table(stats, stats.rates_since(stats), width))
    rows = [line for line in capture.get().splitlines() if line.startswith("│")]
    assert len(rows) <= 4
    assert all(len(row) <= width for row in rows)
