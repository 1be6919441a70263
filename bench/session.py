"""Runs scenarios with the peers that can take part, and says why others could not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .failure import BenchError
from .measure import Bench, run_peer, try_peer
from .native import bpf_obstacle
from .peers import Peer
from .sampling import Comparison, Sample, compare
from .scenarios import Scenario
from .topology import Topology


@dataclass(frozen=True, slots=True)
class Result:
    """A scenario's runs and ratios.

    Attributes:
        skipped: why peers took no part.
        failure: what ended the scenario; its runs would not compare and are left out.
    """

    scenario: Scenario
    comparison: Comparison
    skipped: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""


def run_scenario(
    bench: Bench,
    scenario: Scenario,
    peers: Mapping[str, Peer],
    custom: Sequence[str],
    *,
    pairs: int,
    reference: str | None,
) -> Result:
    """Run one scenario in namespaces of its own.

    A peer that does not start is left out and named; one that fails later ends the scenario.
    With a `reference` the others are divided by that peer instead of those of the scenario.
    """
    if scenario.numbered and bench.programs.bpf is None:
        return Result(scenario, Comparison({}, ()), {"(all)": bpf_obstacle()})
    skipped = {
        name: why for name in _names(scenario, custom) if (why := _obstacle(scenario, peers[name]))
    }
    sink = bench.programs.bpf.order_sink if scenario.numbered and bench.programs.bpf else ""
    place = scenario.sink.value
    with Topology(scenario.shape.hops, scenario.mode, sink, place) as topology:

        def run(name: str) -> Sample:
            return run_peer(bench, scenario, topology, peers[name])

        candidates = [name for name in _names(scenario, custom) if name not in skipped]
        skipped |= _failing(
            candidates, lambda name: try_peer(bench, scenario, topology, peers[name])
        )
        usable = [name for name in candidates if name not in skipped]
        wanted = scenario.references if reference is None else [reference]
        references = [name for name in wanted if name in usable]
        subjects = [name for name in usable if name not in references]
        try:
            return Result(scenario, compare(references, subjects, run, pairs), skipped)
        except BenchError as error:
            return Result(scenario, Comparison({}, ()), skipped, str(error))


def _names(scenario: Scenario, custom: Sequence[str]) -> list[str]:
    return [*scenario.references, *scenario.subjects(custom)]


def _obstacle(scenario: Scenario, peer: Peer) -> str:
    if peer.single and not scenario.shape.single:
        return "relays one input to one output only"
    return peer.missing


def _failing(names: Sequence[str], attempt: Callable[[str], None]) -> dict[str, str]:
    """Start every peer once and give the reasons of those that fail."""
    reasons: dict[str, str] = {}
    for name in names:
        try:
            attempt(name)
        except BenchError as error:
            reasons[name] = str(error)
    return reasons
