"""Alternating runs and the ratios taken from them; pure, it knows nothing of what is run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median

# A reference that changes by more between two runs says nothing about the run in between.
MOVED = 0.2
MAX_ROUNDS = 2  # times the pairs asked for


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: the number that is compared, and what else was seen."""

    value: float
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A subject over a reference; one value for each pair that counts."""

    subject: str
    reference: str
    values: tuple[float, ...]
    repeated: int

    @property
    def median(self) -> float | None:
        """The middle of the pairs; None where the reference never held still."""
        return median(self.values) if self.values else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every run of a scenario by peer, and the ratios."""

    samples: Mapping[str, Sequence[Sample]]
    ratios: Sequence[Ratio]


def compare(
    references: Sequence[str], subjects: Sequence[str], run: Callable[[str], Sample], pairs: int
) -> Comparison:
    """Run references and subjects in turn until each ratio has *pairs* values.

    A subject's run lies between two runs of each reference and is divided by their mean. Where
    those two differ by more than 20 % the pair is repeated, in at most twice as many rounds.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in [*references, *subjects]}
    values: dict[tuple[str, str], list[float]] = {(s, r): [] for s in subjects for r in references}
    repeated = dict.fromkeys(values, 0)

    def take(name: str) -> float:
        sample = run(name)
        samples[name].append(sample)
        return sample.value

    before = {name: take(name) for name in references}
    for _ in range(MAX_ROUNDS * pairs):
        now = {name: take(name) for name in subjects}
        after = {name: take(name) for name in references}
        for (subject, reference), found in values.items():
            if _steady(before[reference], after[reference]):
                between = mean((before[reference], after[reference]))
                found.append(now[subject] / between)
            else:
                repeated[subject, reference] += 1
        before = after
        if all(len(found) >= pairs for found in values.values()):
            break
    ratios = [Ratio(s, r, tuple(found), repeated[s, r]) for (s, r), found in values.items()]
    return Comparison(samples, ratios)


def highest_passing(
    passes: Callable[[float], bool], start: float, limit: float, precision: float
) -> float:
    """Find the highest value that passes, within *precision* (0.05: 5 %); 0 where nothing does.

    Doubles from *start* (or halves, where that fails already) and then bisects; never tries more
    than *limit*.
    """
    low, high = 0.0, start
    while high < limit and passes(high):
        low, high = high, high * 2
    if high >= limit:
        if passes(limit):
            return limit
        high = limit
    while high - low > precision * high and high > start / 1000:
        middle = (low + high) / 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def _steady(before: float, after: float) -> bool:
    return min(before, after) > 0 and abs(before - after) <= MOVED * min(before, after)
