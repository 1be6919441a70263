"""What the screens show and what keys do, with a client that answers at once."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from mcr.errors import DaemonError
from mcr.stats import Alarm, ClassStats, FlowStats, InterfaceStats, LatencyStats, OutputLoss, Rate
from mcr.top.app import TopApp

from .screens import NOW, FakeClient, app_of, colours, reader_of, rule, screen_text, shows

A, B, C = rule("feed-a", 1000), rule("feed-b"), rule("feed-c", 20, port=5003)
LOSSES = replace(
    C.outputs[0],
    dropped={"output_full": 7},
    last_loss=OutputLoss(NOW, "output_full", None),
    rate_1s=Rate(18, 0, 2),
)
LOSING = replace(C, outputs=(LOSSES,), rate_1s=Rate(20, 210560, 2))
FLOW = FlowStats(A.id, "10.0.0.5", 4000, "239.1.1.1", 5001, 100000, 1, NOW, NOW, 4, 4, (0,))
Act = Callable[[TopApp, Pilot[None]], Awaitable[None]]


def show(client: FakeClient, act: Act, **choice: Any) -> None:  # noqa: ANN401
    """Run the application on 80 columns until `act` is done."""

    async def run() -> None:
        app = app_of(client, **choice)
        async with app.run_test(size=(80, 24)) as pilot:
            await shows(app, pilot, "with a problem; in")
            await act(app, pilot)

    asyncio.run(run())


def rows(app: TopApp) -> list[str]:
    """The first word of each row of the table."""
    lines = screen_text(app).splitlines()[4:-1]
    return [line.split()[0] for line in lines if line]


def test_rules_are_sorted_filtered_and_reduced_to_problems() -> None:
    """By keys; the cursor stays with its rule, and the losing one is red and says so."""

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        assert rows(app) == ["feed-b", "feed-a", "feed-c"]
        await pilot.press("down", "s")
        assert rows(app) == ["feed-a", "feed-c", "feed-b"]
        await pilot.press("s")
        assert "by loss" in screen_text(app)
        assert rows(app)[0] == "feed-c"
        line = next(each for each in screen_text(app).splitlines() if each.startswith("feed-c"))
        assert line.split()[1:5] == ["20", "210.6", "kbit/s", "2"]
        assert line.endswith("flowing, loses")
        assert {"red", "yellow"} <= colours(app)
        await pilot.press("p")
        assert rows(app) == ["feed-c", "feed-b"]
        await pilot.press("p", "slash", *"FEED-A", "enter")
        assert rows(app) == ["feed-a"]
        await pilot.press("escape")
        assert len(rows(app)) == 3
        await pilot.press("q")
        assert app.return_code == 0

    show(FakeClient([B, A, LOSING]), act)


def test_outputs_flows_and_drops_have_tables() -> None:
    """With what each lost and why, who sends, and what interfaces dropped."""
    interface = InterfaceStats("eth0", "packet", 120, 100, 3, 0, None, {"no_rule": 20, "vlan": 0})
    client = FakeClient([A, LOSING], (interface,), (FLOW,))

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("2")
        found = await shows(app, pilot, "output_full 7")
        line = found.splitlines()[4].split()
        assert line == ["feed-a", "239.2.0.1%eth1:5001", "1000", "0", "0"]
        await pilot.press("3")
        await shows(app, pilot, "10.0.0.5:4000", "239.1.1.1:5001")
        await pilot.press("4")
        found = await shows(app, pilot, "no_rule", "kernel_dropped_frames", "output_full")
        assert "vlan" not in found
        client.uptime_s += 2
        client.time -= 3600  # the time of day is set
        client.interfaces = (replace(interface, dropped={"no_rule": 60}),)
        await shows(app, pilot, "20             60")

    show(client, act)


def test_classes_have_a_table() -> None:
    """With what each sends and loses a second; of many rules nothing is summed."""
    live = ClassStats("live", 7, 1, 1, 900, 900, 90_000, 0, 0)
    archive = ClassStats("archive", 3, 2, 2, 900, 300, 30_000, 600, 500)
    client = FakeClient([A, B], classes=(live, archive))

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("5")
        found = await shows(app, pilot, "archive", "class_limited")
        assert found.splitlines()[4].split() == ["live", "7", "1", "1", "0", "0", "900", "0"]
        client.uptime_s += 2
        client.classes = (
            replace(live, sent=1000),
            replace(archive, sent=320, lost=700, class_limited=580),
        )
        found = await shows(app, pilot, "1000", "580")
        assert found.splitlines()[4].split() == ["live", "7", "1", "1", "50", "0", "1000", "0"]
        line = found.splitlines()[5].split()
        assert line == ["archive", "3", "2", "2", "10", "50", "320", "580"]
        assert max(map(len, found.splitlines())) <= 80
        client.rules_now = [rule(f"r{n}", port=5000 + n) for n in range(501)]
        client.revision += 1
        await shows(app, pilot, "mcr stats has the classes")

    show(client, act)


def test_a_rule_opens_with_its_outputs_and_flows() -> None:
    """From its row, and from that of an output; a removed one says so."""
    client = FakeClient([A, replace(LOSING, alarms=(Alarm("low_pps", NOW, 30, 20),))], (), (FLOW,))

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        found = await shows(app, pilot, A.id, "matched 100000 (131.6 MB)", "10.0.0.5:4000")
        assert "last 60 s" in found
        await pilot.press("escape", "2", "down", "enter")
        await shows(app, pilot, LOSING.rule, "output_full 7", "no flows")
        client.rules_now, client.revision = [A], 2
        await shows(app, pilot, "this rule was removed")
        await pilot.press("escape")
        await shows(app, pilot, "1-1 of 1")

    show(client, act)


def test_latency_is_shown_where_it_is_measured() -> None:
    """Of each rule in a column, and more on its own screen; else there is no column."""
    latency = LatencyStats(9, 0, 12.0, 1200.0, 1300.0, 1400.0, 2000.0, ())
    client = FakeClient([A, B])

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        assert "p99" not in screen_text(app)
        client.rules_now = [replace(A, latency=latency), B]
        found = await shows(app, pilot, "p99", "1.2 ms")
        assert all(len(line) <= 80 for line in found.splitlines())
        await pilot.press("enter")
        await shows(app, pilot, "latency p50 12 us, p99 1.2 ms, max 1.4 ms of 9 datagrams")

    show(client, act)


def test_help_has_all_keys_on_a_small_terminal() -> None:
    """And readings go on behind it."""
    client = FakeClient([A])

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        found = screen_text(app)
        for key in ("q ", "Ctrl-C", "?", "/", "s ", "p ", "Enter", "Escape", "PgDn", "Home"):
            assert re.search(rf"(^| ){re.escape(key)}", found, re.M), key
        assert "a space was not read" in found
        client.rules_now, client.revision = [B], 2
        await pilot.press("q")
        await shows(app, pilot, "feed-b")

    show(client, act)


def test_a_daemon_that_goes_is_said_and_comes_back() -> None:
    """What was read stays on the screen."""
    client = FakeClient([A])

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        client.failure = DaemonError("no daemon listens at /run/mcr/mcr.sock")
        found = await shows(app, pilot, "no daemon listens", "trying again")
        assert "feed-a" in found
        client.failure = None
        await shows(app, pilot, "1 rule, none with a problem")

    show(client, act)


def test_what_is_missing_is_said() -> None:
    """No rule, and a daemon that counts no flows."""
    client = FakeClient([A], counts_flows=False)

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("3")
        await shows(app, pilot, "start it with mcr serve --flows")
        client.rules_now, client.revision = [], 2
        await pilot.press("1")
        await shows(app, pilot, "no rules; add one with mcr rule add")

    show(client, act)


def test_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR leaves words."""
    monkeypatch.setenv("NO_COLOR", "1")

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        assert not colours(app)
        await shows(app, pilot, "flowing, loses")

    show(FakeClient([LOSING, B]), act)


def test_names_are_no_markup_and_fit() -> None:
    """Brackets stay, control characters are shown, what is too long is cut."""
    odd = replace(rule("[/x]", 1), name="[/x]\x1b[2J" + "é" * 60)

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        found = await shows(app, pilot, "[/x]\\x1b[2J")
        assert all(len(line) <= 80 for line in found.splitlines())
        await pilot.press("down", "enter")
        await shows(app, pilot, odd.id)

    client = FakeClient([rule("first", 1), odd])
    show(client, act)


def test_ten_thousand_rules_cost_little() -> None:
    """A reading is on the screen in less than 50 ms of processor time, and keys work."""
    client = FakeClient([rule(f"feed-{n:05}", n * 7919 % 1000, port=1 + n) for n in range(10_000)])

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        await shows(app, pilot, "10000 rules")
        costs = []
        for _ in range(5):
            began_s = time.process_time()
            app._overview.show_reading()
            screen_text(app)
            costs.append(time.process_time() - began_s)
        assert min(costs) < 0.05
        await pilot.press("end")
        await shows(app, pilot, "9982-10000 of 10000")

    show(client, act, order="name")


def test_of_many_rules_the_visible_ones_are_read_each_time() -> None:
    """The others in turn; a rule that was removed in between is no failure that stays."""
    client = FakeClient([rule(f"feed-{n:05}", 1, port=1 + n) for n in range(1200)])
    reader = reader_of(client)
    ids = [each.id for each in client.rules_now]

    async def read() -> None:
        await reader.read([], [])
        assert len(reader.rules) == 1200
        assert [len(each or []) for each in client.requests] == [500, 500, 200]
        client.requests.clear()
        await reader.read(ids[1100:1120], [])
        assert client.requests[0] == ids[1100:1120]
        assert reader.trend_bars(ids[1100], 3) == "  █"

    asyncio.run(read())
