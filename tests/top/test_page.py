"""The screens in docs/top.md are what is drawn, on 80 columns and 24 lines."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.support.documents import Page

from mcr.stats import Alarm, FlowStats, OutputLoss, Rate, RuleStats, SequenceStats

from .screens import NOW, FakeClient, app_of, rule, screen_text, shows

NEWS_PPS = (1000, 1010, 990, 640, 0, 0, 580, 1000)
"""In the seconds before the screens are drawn."""


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page shows UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def rules(news_pps: float) -> list[RuleStats]:
    """The rules of the page."""
    news, sport, backup = rule("news", news_pps), rule("sport", 420, port=5002), rule("backup")
    parked = replace(news.outputs[0], output="239.2.0.9%eth2:5001", parked="eth2 is down")
    lossy = replace(
        sport.outputs[0],
        dropped={"output_full": 1204},
        last_loss=OutputLoss(NOW, "output_full", None),
        rate_1s=Rate(408, 0, 12),
    )
    alarm = Alarm("silent", NOW - 8, 2, 8.1)
    return [
        replace(news, outputs=(*news.outputs, parked)),
        replace(
            sport,
            state=f"{sport.state}; output 1 lost copies in the last 5 s: output_full",
            outputs=(lossy,),
            rate_1s=Rate(420, 4421760, 12),
        ),
        rule("film", 2500, port=5003),
        replace(
            backup,
            state=f"{alarm}; joined, no frame seen on eth0",
            state_code="below_expected",
            alarms=(alarm,),
        ),
    ]


def flow(of: RuleStats) -> FlowStats:
    """The sender of a rule."""
    made = FlowStats(of.id, "10.0.0.5", 4000, "239.1.1.1", 5002, 42000, 1, NOW, NOW, 4, 4, (34,))
    numbers = SequenceStats(
        *("rtp", "datagrams", "recognised", 42000, 0, 17, 2, 0, 3, 12, 0, None, 33),
        *(18.5, "timestamps", ()),
    )
    return replace(made, rate_1s=of.rate_1s, sequence=numbers)


def test_the_screens_of_the_page() -> None:
    """All rules, one of them, and the keys."""
    all_rules, one_rule, keys = (each.rstrip() for each in Page.read("docs/top.md").blocks("text"))
    client = FakeClient([])

    async def draw() -> None:
        app = app_of(client)
        for ago_s, pps in enumerate(NEWS_PPS):
            client.time, client.uptime_s = NOW - len(NEWS_PPS) + 1 + ago_s, 100.0 + ago_s
            client.rules_now = rules(pps)
            await app._reader.read([], [])
        client.flows_now = (flow(client.rules_now[1]),)
        async with app.run_test(size=(80, 24)) as pilot:
            assert (await shows(app, pilot, "news", "missing")).rstrip() == all_rules
            await pilot.press("down", "enter")
            assert (await shows(app, pilot, "10.0.0.5:4000")).rstrip() == one_rule
            await pilot.press("question_mark")
            assert screen_text(app).rstrip() == keys

    asyncio.run(draw())
