"""What `mcr fleet top` shows and what keys do, with a fleet that answers at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace

import pytest
from tests.support.documents import Page
from textual.pilot import Pilot

from mcr.fleet.source import SourceError
from mcr.top.fleet_app import FleetTopApp

from .fleet_screens import FakeFleet, fleet_app_of, status, traffic
from .screens import NOW, colours, screen_text, shows

SITE = {"site": "ams"}
Act = Callable[[FleetTopApp, Pilot[None]], Awaitable[None]]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It is always the time of the readings, in UTC."""
    fixed = SimpleNamespace(
        time=lambda: NOW,
        monotonic=time.monotonic,
        strftime=time.strftime,
        localtime=time.localtime,
    )
    for module in ("fleet.node_statuses", "top.fleet_reader"):
        monkeypatch.setattr(f"mcr.{module}.time", fixed)
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def fleet() -> FakeFleet:
    """Five nodes, each in another state."""
    return FakeFleet(
        {
            "labels/site=ams": [3, 12],
            **{f"nodes/{name}": [5] for name in ("ams1", "ams2", "lon1", "vie1")},
            "nodes/fra1": [9, 14],
            "nodes/par1": [8, 13],
        },
        [
            status(
                "ams1",
                applied={"nodes/ams1": 5, "labels/site=ams": 12},
                traffic=traffic(41250),
                labels=SITE,
            ),
            status(
                "ams2",
                applied={"nodes/ams2": 5, "labels/site=ams": 12},
                traffic=traffic(900, 12, 1204, 1),
                labels=SITE,
            ),
            status("fra1", "refused", applied={"nodes/fra1": 9}, problems=("nodes/fra1:1: no",)),
            status("lon1", applied={"nodes/lon1": 5}, age_s=400, traffic=traffic(10)),
            status("par1", applied={"nodes/par1": 8}, traffic=traffic(700)),
        ],
    )


def show(fleet: FakeFleet, act: Act, columns: int = 80) -> None:
    """Run the application until `act` is done."""

    async def run() -> None:
        app = fleet_app_of(fleet)
        async with app.run_test(size=(columns, 24)) as pilot:
            await shows(app, pilot, "with a problem; in")
            await act(app, pilot)

    asyncio.run(run())


def rows(app: FleetTopApp) -> list[str]:
    """The first word of each row of the table."""
    lines = screen_text(app).splitlines()[4:-1]
    return [line.split()[0] for line in lines if line]


def test_the_screen_of_the_page() -> None:
    """That of docs/fleet.md, on 80 columns; the newest revision and the one that each node has."""
    (page,) = Page.read("docs/fleet.md").blocks("text")

    async def act(app: FleetTopApp, _: Pilot[None]) -> None:
        assert screen_text(app).rstrip() == page.rstrip()
        assert {"red", "yellow"} <= colours(app)

    show(fleet(), act)


def test_nodes_are_sorted_filtered_and_reduced_to_problems() -> None:
    """By keys."""

    async def act(app: FleetTopApp, pilot: Pilot[None]) -> None:
        assert rows(app) == ["ams1", "ams2", "fra1", "lon1", "par1", "vie1"]
        await pilot.press("s")
        assert rows(app) == ["fra1", "lon1", "par1", "vie1", "ams2", "ams1"]
        await pilot.press("s")
        assert rows(app)[0] == "ams2"
        await pilot.press("s")
        assert rows(app)[:2] == ["ams1", "ams2"]
        await pilot.press("p")
        assert "ams1" not in rows(app)
        await pilot.press("p", "slash", *"SITE=AMS", "enter")
        assert rows(app) == ["ams1", "ams2"]
        await pilot.press("escape", "question_mark")
        assert "mcr fleet top: keys" in screen_text(app)
        await pilot.press("escape", "q")
        assert app.return_code == 0

    show(fleet(), act)


def test_a_node_opens_with_its_documents_and_problems() -> None:
    """It follows what is read, and says so when the node was removed."""
    made = fleet()

    async def act(app: FleetTopApp, pilot: Pilot[None]) -> None:
        await pilot.press("down", "down", "enter")
        found = await shows(app, pilot, "refused: has revision 9, should have 14", "nodes/fra1:1")
        assert "2 rules wanted" in found
        made.nodes_now[2] = status("fra1", applied={"nodes/fra1": 14}, traffic=traffic(20))
        await shows(app, pilot, "applied: has revision 14, should have 14", "in 20/s")
        del made.nodes_now[2], made.documents_now["nodes/fra1"]
        await shows(app, pilot, "this node was removed")
        await pilot.press("escape")
        await shows(app, pilot, "1-5 of 5")

    show(made, act)


def test_servers_that_fail_are_said_and_come_back() -> None:
    """What was read stays on the screen; a wide one has reasons."""
    made = fleet()

    async def act(app: FleetTopApp, pilot: Pilot[None]) -> None:
        assert "refused: nodes/fra1:1: no" in screen_text(app)
        made.failure = SourceError("no NATS server is connected")
        found = await shows(app, pilot, "no NATS server is connected; trying again")
        assert "ams1" in found
        made.failure = None
        await shows(app, pilot, "6 nodes, 5 with a problem")

    show(made, act, columns=140)


def test_a_text_older_than_the_history_is_said() -> None:
    """It is searched once."""
    made = fleet()
    made.nodes_now = [status("par1", applied={"nodes/par1": 2})]

    async def act(app: FleetTopApp, pilot: Pilot[None]) -> None:
        (line,) = [each for each in screen_text(app).splitlines() if each.startswith("par1")]
        assert line.split()[1:4] == ["behind", "13", "?"]
        made.asked.clear()
        while made.asked.count("revisions") < 2:
            await pilot.pause(0.02)
        assert "history nodes/par1" not in made.asked

    show(made, act)


def test_a_thousand_nodes_cost_little() -> None:
    """A reading asks for revisions only, and is on the screen in 50 ms of processor time."""
    names = [f"node-{number:04}" for number in range(1000)]
    made = FakeFleet(
        {f"nodes/{name}": [1 + number] for number, name in enumerate(names)},
        [
            status(name, applied={f"nodes/{name}": 1 + number}, traffic=traffic(number))
            for number, name in enumerate(names)
        ],
    )

    async def act(app: FleetTopApp, pilot: Pilot[None]) -> None:
        await shows(app, pilot, "1000 nodes, none with a problem; in 499500/s")
        costs = []
        for _ in range(5):
            made.asked.clear()
            began_s = time.process_time()
            await app.read()
            app.shown.show_reading()
            screen_text(app)
            costs.append(time.process_time() - began_s)
            assert set(made.asked) <= {"revisions", "nodes"}
        assert min(costs) < 0.05
        await pilot.press("s", "end")
        await shows(app, pilot, "node-0999", "1000 of 1000")
        made.documents_now["nodes/node-0999"].append(2000)
        found = await shows(app, pilot, "behind")
        assert "2000    1000" in found

    show(made, act)
