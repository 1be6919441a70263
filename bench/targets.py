"""What mcr is meant to reach, checked against the results.

Ratios are to the one-by-one relay where the text names nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from statistics import median
from typing import TypeAlias

from .peers import LEAST, MOST
from .sampling import Comparison, Sample
from .scenarios import LARGE, SMALL, Scenario, Sink, mixed_scenarios, thousand_scenarios
from .session import Result
from .topology import Mode


class Verdict(Enum):
    """Whether a target was reached."""

    MET = "met"
    NOT_MET = "not met"
    NOT_MEASURED = "not measured"


Found: TypeAlias = Mapping[str, Comparison]
"""What was measured, by the name of its scenario."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one number of one scenario."""

    text: str
    scenario: str
    measure: Callable[[Found, str], float | None]
    bound: float
    at_most: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target, what was measured and the verdict."""

    text: str
    scenario: str
    bound: str
    measured: float | None
    verdict: Verdict


def check(results: Sequence[Result]) -> list[Outcome]:
    """Check every target; what was not run, or never held still, is not measured."""
    found = {result.scenario.name: result.comparison for result in results}
    return [_outcome(target, found) for target in TARGETS]


def _outcome(target: Target, found: Found) -> Outcome:
    value = target.measure(found, target.scenario)
    if value is None:
        verdict = Verdict.NOT_MEASURED
    elif (value <= target.bound) if target.at_most else (value >= target.bound):
        verdict = Verdict.MET
    else:
        verdict = Verdict.NOT_MET
    bound = f"{'at most' if target.at_most else 'at least'} {target.bound:g}"
    return Outcome(target.text, target.scenario, bound, value, verdict)


def _ratio(subject: str, reference: str) -> Callable[[Found, str], float | None]:
    def measure(found: Found, scenario: str) -> float | None:
        ratios = found[scenario].ratios if scenario in found else ()
        for ratio in ratios:
            if (ratio.subject, ratio.reference) == (subject, reference):
                return ratio.median
        return None

    return measure


def _least_ratio(
    subject: str, reference: str, scenarios: Sequence[Scenario]
) -> Callable[[Found, str], float | None]:
    """Take the worst of several scenarios; not measured if one of them is not."""

    def measure(found: Found, label: str) -> float | None:
        del label
        ratios = [_ratio(subject, reference)(found, scenario.name) for scenario in scenarios]
        known = [ratio for ratio in ratios if ratio is not None]
        return min(known) if known and len(known) == len(ratios) else None

    return measure


def _least_between(
    subject: str, other: str, scenarios: Sequence[Scenario]
) -> Callable[[Found, str], float | None]:
    """Divide the rates of two ways; the worst of several scenarios, all of which are measured."""

    def measure(found: Found, label: str) -> float | None:
        del label
        ratios = []
        for scenario in scenarios:
            rates = [_samples(found, scenario.name, name) for name in (subject, other)]
            if not all(rates):
                return None
            first, second = (median(sample.value for sample in samples) for samples in rates)
            ratios.append(first / second)
        return min(ratios)

    return measure


def _best_p99(found: Found, scenario: str) -> float | None:
    """Divide the best p99 of mcr by the best of the reference."""
    best = [
        min(sample.details["p99_us"] for sample in samples)
        for name in ("mcr", "one_by_one")
        if (samples := _samples(found, scenario, name))
    ]
    return best[0] / best[1] if len(best) == 2 else None  # noqa: PLR2004 - both


def _p99_moved_ms(found: Found, scenario: str) -> float | None:
    """How much later the p99 is while rules change."""
    p99_us = [
        median(sample.details["p99_us"] for sample in samples)
        for name in ("mcr_changing_rules", "mcr_many_rules")
        if (samples := _samples(found, scenario, name))
    ]
    return (p99_us[0] - p99_us[1]) / 1000 if len(p99_us) == 2 else None  # noqa: PLR2004 - both


def _small_to_large(found: Found, scenario: str) -> float | None:
    """Divide the rate of small datagrams by the rate of large ones in the same shape and mode."""
    large = scenario.replace(f"/{SMALL}/", f"/{LARGE}/")
    rates = [
        median(sample.value for sample in samples)
        for name in (scenario, large)
        if (samples := _samples(found, name, "mcr"))
    ]
    return rates[0] / rates[1] if len(rates) == 2 else None  # noqa: PLR2004 - both


def _samples(found: Found, scenario: str, peer: str) -> Sequence[Sample]:
    return found[scenario].samples.get(peer, ()) if scenario in found else ()


# As an interface is by default, and as it is where somebody has turned merging off.
LIVE_MODES = {Mode.GRO: "GRO on", Mode.SOFTWARE: "GRO off"}
LATENCY_BOUND = 1.2


def _targets() -> list[Target]:
    relay = _ratio("mcr", "one_by_one")
    targets = [
        Target("1:1, GRO on", _name("1:1", LARGE, Mode.GRO), relay, 3.0),
        Target("1:1, GRO off", _name("1:1", LARGE, Mode.SOFTWARE), relay, 2.0),
    ]
    for mode, words in LIVE_MODES.items():
        for shape, bound in (("1:8", 3.5), ("1:20", 3.5), ("100x1:4", 1.8), ("chain3", 2.5)):
            targets.append(Target(f"{shape}, {words}", _name(shape, LARGE, mode), relay, bound))
        lossless = _name("lossless", LARGE, mode)
        targets.append(Target(f"1:1 without loss, {words}", lossless, relay, 2.5))
    targets += [
        Target("1:1, super-frames in and out", _name("1:1", LARGE, Mode.OFFLOAD), relay, 9.0),
        Target("1:8, super-frames in and out", _name("1:8", LARGE, Mode.OFFLOAD), relay, 18.0),
        *_targets_of_merge(),
    ]
    for mode, words in LIVE_MODES.items():
        targets += _targets_beside_the_rate(mode, words)
    targets += _targets_of_ways()
    for scenario in thousand_scenarios():
        text = f"1:1000, {scenario.sizes} bytes, {LIVE_MODES[scenario.mode]}, to the bare sender"
        bare = _ratio("mcr", scenario.references[-1])
        targets.append(Target(text, scenario.name, bare, 0.9))
    text = "p99 of a flow at 50k, moved by changes of 10 000 rules, ms"
    changes = _name("changes", LARGE, Mode.SOFTWARE)
    targets.append(Target(text, changes, _p99_moved_ms, 1.0, at_most=True))
    return targets


def _targets_of_merge() -> list[Target]:
    """Two whole feeds, beside a merge that handles one datagram after the other."""
    merge = _ratio("mcr_merge", "merge_one_by_one")
    targets = [
        Target(f"merge of two, {words}", _name("merge", LARGE, mode), merge, 1.5)
        for mode, words in LIVE_MODES.items()
    ]
    # Of super-frames more are offered than a relay can take. Each feed then loses other numbers,
    # and what would be compared is the loss.
    bounds = {Mode.GRO: 1.5, Mode.SOFTWARE: 1.5, Mode.OFFLOAD: 5.0}
    words = {**LIVE_MODES, Mode.OFFLOAD: "super-frames in and out"}
    return targets + [
        Target(
            f"merge of two without loss, {words[mode]}",
            _name("merge-lossless", LARGE, mode),
            merge,
            bound,
        )
        for mode, bound in bounds.items()
    ]


def _targets_of_ways() -> list[Target]:
    """What holds for every kind of traffic, so that the worst of them counts."""
    mixed = mixed_scenarios()
    label = f"sizes:{LEAST}-{MOST}"
    random = [scenario for scenario in mixed if label in scenario.labels]
    fan_out = [scenario for scenario in random if scenario.shape.outputs > 1]
    sockets = _least_ratio("mcr_socket", "one_by_one", mixed)
    chosen = _least_ratio("mcr", "one_by_one", fan_out)
    return [
        Target("one flow and twenty, by sockets", "egress", sockets, 1.4),
        Target("random sizes, 1:4 and 1:8", label, chosen, 2.4),
        *_targets_of_offload(mixed),
    ]


def _targets_of_offload(mixed: Sequence[Scenario]) -> list[Target]:
    """The relay in the kernel beside the engine with sockets."""
    offload = [scenario for scenario in mixed if "offload" in scenario.labels]
    to_card = [scenario for scenario in offload if scenario.sink is Sink.CARD]
    random = [scenario for scenario in to_card if scenario.least_bytes]
    to_stack = [s for s in offload if s.sink is Sink.STACK and s.least_bytes]
    large = [scenario for scenario in to_card if scenario.size_bytes == LARGE]
    one = [scenario for scenario in large if scenario.shape.single]
    least = partial(_least_between, "mcr_kernel", "mcr_socket")
    return [
        Target("random sizes, kernel to sockets, to a card", "offload", least(random), 4.5),
        Target("random sizes, kernel to sockets, to a stack", "offload", least(to_stack), 2.4),
        Target(f"1:1, {LARGE} bytes, kernel to sockets, to a card", "offload", least(one), 2.2),
    ]


def _targets_beside_the_rate(mode: Mode, words: str) -> list[Target]:
    """What is no ratio of rates to the one-by-one relay."""
    small = [
        Target(
            f"{shape}, {SMALL} bytes to {LARGE} bytes, {words}",
            _name(shape, SMALL, mode),
            _small_to_large,
            1.0,
        )
        for shape in ("1:1", "1:8")
    ]
    two = Target(
        f"two workers to one, {words}",
        _name("1:20x16", LARGE, mode),
        _ratio("mcr_workers_2", "mcr"),
        1.5,
    )
    latency = [
        Target(
            f"latency {what} at {rate}, {words}",
            _name(f"latency-{rate}", LARGE, mode),
            measure,
            LATENCY_BOUND,
            at_most=True,
        )
        for rate in ("1k", "50k")
        for what, measure in (("p50", _ratio("mcr", "one_by_one")), ("best p99", _best_p99))
    ]
    return [*small, two, *latency]


def _name(head: str, size_bytes: int, mode: Mode) -> str:
    return f"{head}/{size_bytes}/{mode.value}"


TARGETS = _targets()
