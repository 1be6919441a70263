"""The bench's selection of scenarios, its check of the order, and its table of ways."""

from dataclasses import replace
from pathlib import Path

import pytest
from bench import native
from bench.failure import BenchError
from bench.order_sink import Tally, check_order
from bench.sampling import Comparison, Ratio, Sample
from bench.scenarios import Feed, Kind, Scenario, Shape, Sink, all_scenarios, select
from bench.session import Result
from bench.topology import Mode
from bench.ways import HEADING, way_rows

TWENTY = Shape("20x1:4", flows=20, outputs=4)
MIXED = Scenario(Kind.THROUGHPUT, TWENTY, 400, Mode.GRO, least_bytes=60, feed=Feed.WIRE)


def test_names_are_unique_and_select_their_scenario() -> None:
    """Each name, its first part and its labels."""
    scenarios = all_scenarios()
    assert len({scenario.name for scenario in scenarios}) == len(scenarios)
    both = select(scenarios, ["20x1:4/60-400/gro/wire"])
    assert both == [MIXED, replace(MIXED, sink=Sink.CARD)]
    assert MIXED in select(scenarios, ["20x1:4"])
    twenty = select(scenarios, ["x20"])
    assert MIXED in twenty
    assert {scenario.shape.flows for scenario in twenty} == {20}
    assert {scenario.sizes for scenario in select(scenarios, ["sizes:60-400"])} == {"60-400"}
    assert set(twenty) < set(select(scenarios, ["egress"]))


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Scenarios with numbered datagrams are left out with this reason."""
    monkeypatch.setattr(native, "which", lambda _: None)
    monkeypatch.setattr(native, "BPF_HEADER", tmp_path / "libbpf.h")
    assert native.bpf_obstacle().endswith("apt-get install clang libbpf-dev")
    (tmp_path / "libbpf.h").touch()
    monkeypatch.setattr(native, "which", str)
    assert not native.bpf_obstacle()


SENT = [10, 20]
WHOLE = {(0, 0): 10, (0, 1): 20, (1, 0): 10, (1, 1): 20}


def tally(late: int = 0, **changed: int) -> Tally:
    """Two flows at two outputs."""
    flows = WHOLE | {(int(place[1]), int(place[2])): n for place, n in changed.items()}
    frames = sum(flows.values())
    return Tally(frames, 100 * frames, late, flows)


def test_what_arrived_whole_and_in_order_passes() -> None:
    """Under load copies may be missing."""
    check_order(tally(), SENT, 2, whole=True)
    check_order(tally(f01=5), SENT, 2, whole=False)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (tally(late=1), "1 of 60 copies out of order"),
        (tally(f01=19), "1 of 60 copies missing"),
        (tally(f11=21, f00=9), "21 copies of 20 datagrams"),
        (tally(f20=1), "1 copies of 0 datagrams"),
        (tally(f02=1), "1 copies of 0 datagrams"),
    ],
)
def test_a_violation_is_named(found: Tally, words: str) -> None:
    """Whether it is a copy too few, too many, too late, or one that no rule asks for."""
    with pytest.raises(BenchError, match=words):
        check_order(found, SENT, 2, whole=True)


def compared(**times: float) -> Result:
    """A scenario in which the reference reached 100 k/s."""
    samples = {name: [Sample(1e5 * value)] for name, value in times.items()}
    ratios = [Ratio(name, "one_by_one", (value,), 0) for name, value in times.items()]
    return Result(MIXED, Comparison({"one_by_one": [Sample(1e5)], **samples}, ratios))


@pytest.mark.parametrize(
    ("times", "winner"),
    [
        ({"mcr": 2.5, "mcr_socket": 1.3, "mcr_xdp": 2.6}, "mcr_xdp"),
        ({"mcr": 3.0, "mcr_socket": 3.0, "mcr_xdp": 2.9}, "mcr_socket = mcr_xdp"),
        ({"mcr": 0.8, "mcr_socket": 0.9, "mcr_xdp": 0.5}, "one_by_one"),
        ({"mcr": 1.2}, "mcr"),
    ],
)
def test_the_fastest_way_wins_and_near_ones_are_even(times: dict[str, float], winner: str) -> None:
    """Where mcr cannot be told which way to go, it is one itself."""
    [row] = way_rows([compared(**times)])
    assert len(row) == len(HEADING)
    assert row[:6] == ("60-400", "20", "1:4", "on", "the wire", "a stack")
    assert row[-1] == winner
    assert row[7] == f"{times['mcr']:.2f} ({100 * times['mcr']:.0f} k/s)"


def test_scenarios_that_compare_no_ways_have_no_row() -> None:
    """Nor has one that failed."""
    other = Scenario(Kind.THROUGHPUT, TWENTY, 1400, Mode.GRO)
    assert way_rows([Result(other, Comparison({}, ())), Result(MIXED, Comparison({}, ()))]) == []
