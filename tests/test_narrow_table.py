"""The live view of a relay is readable at every width, and shows all losses."""

import io

import pytest
from rich.console import Console

from mcr.cli.output import live_table, open_view
from mcr.protocol.summary import report
from mcr.stats import InterfaceStats, RuleStats, Stats

STATE = "joined, no frame seen on eth0"
RULE = "10.0.0.5@239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001"


@pytest.mark.parametrize("width", [50, 60, 80, 95, 96, 120, 200])
def test_the_state_keeps_room(width: int) -> None:
    """It fits into a few lines, whatever else the table shows."""
    rule = RuleStats("0" * 12, None, RULE, STATE, 10**9, 10**12, ())
    stats = Stats((), (rule,))
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(live_table(stats, stats.rates_since(stats), width))
    rows = [line for line in capture.get().splitlines() if line.startswith("│")]
    assert len(rows) <= 4
    assert all(len(row) <= width for row in rows)


@pytest.mark.parametrize(
    ("kernel", "error", "expected"),
    [
        (7, None, "eth0: kernel dropped 7 frames"),
        (0, "ENETDOWN", "eth0: receiving ended with ENETDOWN"),
    ],
)
def test_lines_show_unmatched_datagrams(kernel: int, error: str | None, expected: str) -> None:
    """At once, not only in the report at the end."""
    stats = Stats((InterfaceStats("eth0", "packet", 0, 0, kernel, 0, error, {}),), ())
    log = io.StringIO()
    with open_view(stats, log) as view:
        view.show(stats)
    assert expected in log.getvalue()
    assert expected.removeprefix("eth0: ") in report(stats, 1.0)


def test_lines_omit_interfaces_without_loss() -> None:
    """No interface stands in the log without a reason."""
    stats = Stats((InterfaceStats("eth0", "packet", 5, 5, 0, 0, None, {}),), ())
    log = io.StringIO()
    with open_view(stats, log) as view:
        view.show(stats)
    assert "eth0" not in log.getvalue()
