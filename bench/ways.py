"""Which way wins when: mcr's ways to send, side by side for each kind of traffic; pure."""

from collections.abc import Sequence
from statistics import median

from .scenarios import Feed, Sink
from .session import Result
from .topology import Mode

REFERENCE = "one_by_one"
WAYS = ("mcr", "mcr_socket", "mcr_xdp", "mcr_kernel")
# Ways whose medians differ by less are even: one run differs from the next by as much.
EVEN = 0.05
HEADING = ("sizes", "flows", "outputs", "GRO", "from", "to", REFERENCE, *WAYS, "wins")
FEEDS = {Feed.SOCKET: "a socket", Feed.WIRE: "the wire"}
SINKS = {Sink.STACK: "a stack", Sink.CARD: "a card"}


def way_rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Give a row for each scenario that compares ways: copies/s, and the times of the reference."""
    return [
        _row(result) for result in results if "egress" in result.scenario.labels and _of(result)
    ]


def _row(result: Result) -> tuple[str, ...]:
    scenario = result.scenario
    times = _of(result)
    return (
        scenario.sizes,
        str(scenario.shape.flows),
        f"1:{scenario.shape.outputs}",
        "on" if scenario.mode is Mode.GRO else "off",
        FEEDS[scenario.feed],
        SINKS[scenario.sink],
        _rate(result, REFERENCE),
        *(f"{times[way]:.2f} ({_rate(result, way)})" if way in times else "-" for way in WAYS),
        _winner(times),
    )


def _of(result: Result) -> dict[str, float]:
    """Give the median ratio to the reference of each way that has one."""
    found = {ratio.subject: ratio.median for ratio in result.comparison.ratios}
    return {way: times for way in WAYS if (times := found.get(way)) is not None}


def _rate(result: Result, peer: str) -> str:
    samples = result.comparison.samples.get(peer, ())
    return f"{median(sample.value for sample in samples) / 1000:,.0f} k/s" if samples else "-"


def _winner(times: dict[str, float]) -> str:
    """Name the fastest; `mcr` chooses a way itself and is one only where the ways are unknown."""
    chosen = {REFERENCE: 1.0} | {way: value for way, value in times.items() if way != "mcr"}
    if len(chosen) == 1:
        chosen |= times
    best = max(chosen, key=lambda way: chosen[way])
    others = [way for way in chosen if way != best and chosen[way] > (1 - EVEN) * chosen[best]]
    return " = ".join([best, *others])
