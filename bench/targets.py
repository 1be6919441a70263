"""What mcr is meant to reach, checked against the results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from .sampling import Comparison
from .scenarios import LARGE
from .session import Result


class Verdict(Enum):
    """Whether a target was reached."""

    MET = "met"
    NOT_MET = "not met"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one number of one scenario."""

    text: str
    scenario: str
    measure: Callable[[Comparison], float | None]
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
    return [_outcome(target, found.get(target.scenario)) for target in TARGETS]


def _outcome(target: Target, comparison: Comparison | None) -> Outcome:
    value = target.measure(comparison) if comparison else None
    if value is None:
        verdict = Verdict.NOT_MEASURED
    elif (value <= target.bound) if target.at_most else (value >= target.bound):
        verdict = Verdict.MET
    else:
        verdict = Verdict.NOT_MET
    bound = f"{'at most' if target.at_most else 'at least'} {target.bound:g}"
    return Outcome(target.text, target.scenario, bound, value, verdict)


def _ratio(subject: str, reference: str) -> Callable[[Comparison], float | None]:
    def measure(comparison: Comparison) -> float | None:
        for ratio in comparison.ratios:
            if (ratio.subject, ratio.reference) == (subject, reference):
                return ratio.median
        return None

    return measure


def _best_p99(comparison: Comparison) -> float | None:
    """Divide the best p99 of mcr by the best of the reference."""
    best = {
        name: min(sample.details["p99_us"] for sample in comparison.samples[name])
        for name in ("mcr", "one_by_one")
        if comparison.samples.get(name)
    }
    return best["mcr"] / best["one_by_one"] if len(best) == 2 else None  # noqa: PLR2004 - both


def _targets() -> list[Target]:
    relay, bare = _ratio("mcr", "one_by_one"), _ratio("mcr", "bare_sender")
    targets: list[Target] = []
    for mode in ("software", "gro"):
        targets += [
            Target("1:1 against one by one", f"1:1/{LARGE}/{mode}", relay, 2.5),
            Target("1:8 against one by one", f"1:8/{LARGE}/{mode}", relay, 3.0),
            Target("1:8 against a bare sender", f"1:8/{LARGE}/{mode}", bare, 0.85),
            Target(
                "latency p50 at 50 k/s", f"latency-50k/{LARGE}/{mode}", relay, 1.2, at_most=True
            ),
            Target(
                "best latency p99 at 50 k/s",
                f"latency-50k/{LARGE}/{mode}",
                _best_p99,
                1.2,
                at_most=True,
            ),
        ]
    return [
        *targets,
        Target("1:1 against one by one", f"1:1/{LARGE}/offload", relay, 8.0),
        Target("1:8 against one by one", f"1:8/{LARGE}/offload", relay, 15.0),
        Target(
            "mcr send against a bare sender",
            f"1:1/{LARGE}/software",
            _ratio("mcr_send", "bare_sender"),
            0.85,
        ),
    ]


TARGETS = _targets()
