"""The live view of a relay is readable in every window, and shows all losses."""

import io
import re

import pytest

from mcr.cli.live import WindowSize, live_lines
from mcr.cli.view import open_view
from mcr.protocol.summary import report
from mcr.stats import InterfaceStats, RuleStats, Stats

STATE = "joined, no frame seen on eth0; output 2 parked: there is no route to 192.0.2.7"
RULE = "10.0.0.5@239.1.1.{}%eth0:5001 to 239.2.0.1%eth1:6001"
INTERFACE = InterfaceStats("eth0", "packet", 10**9, 10**9, 7, 0, None, {"no_rule": 2, "vlan": 3})


def reading(rules: int, interfaces: int = 1) -> Stats:
    """A reading of so many rules and interfaces."""
    each = (
        RuleStats(f"{number:012}", None, RULE.format(number), STATE, 10**9, 10**12, ())
        for number in range(rules)
    )
    return Stats((INTERFACE,) * interfaces, tuple(each))


@pytest.mark.parametrize("columns", [40, 50, 60, 80, 95, 96, 120, 200])
@pytest.mark.parametrize("rows", [8, 24, 60])
def test_the_view_fits_the_window(columns: int, rows: int) -> None:
    """Whatever its size: no line is too long, no word is divided, the interfaces are there."""
    stats = reading(30)
    lines = [
        line.plain
        for line in live_lines(stats, stats.rates_since(stats), WindowSize(columns, rows))
    ]
    assert len(lines) <= rows
    assert all(len(line) <= columns for line in lines)
    words = {*STATE.split(), *(RULE.format(number).split(" to ")[0] for number in range(30))}
    shown = " ".join(lines[1:-1]).split()
    known = {*words, *re.findall(r"\S+", report(stats)), "0", "bit/s", *map(str, range(10))}
    assert [word for word in shown if word not in known] == []
    assert any("eth0 (packet):" in line for line in lines)
    assert len(lines[-1]) <= columns - 4
    assert ("shown" in lines[-1]) == (sum("10.0.0.5@" in line for line in lines) < 30)


def test_many_interfaces_leave_room_for_rules() -> None:
    """Those that do not fit are counted."""
    stats = reading(30, interfaces=50)
    lines = live_lines(stats, stats.rates_since(stats), WindowSize(120, 24))
    assert len(lines) <= 24
    assert "more interfaces" in lines[-2].plain
    assert "10.0.0.5@239.1.1.0%eth0:5001" in lines[1].plain


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
