"""Where the outputs of a changed rule come from: most of them from the rule before it.

A change of one output among a thousand thus costs little more than that output.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from .model import Rule
from .spec import ResolvedOutput, ResolvedRule

T = TypeVar("T")
Layout = tuple[range | int, ...]
"""The outputs of a rule in their order: places of outputs of the rule before it, which stay, and
the own place of each new one. Places count from 0."""


def all_new(rule: Rule) -> Layout:
    """The layout of a rule that has nothing of another one."""
    return tuple(range(len(rule.outputs)))


def layout_between(before: Rule, rule: Rule) -> Layout:
    """The layout of a rule that replaces another one; equal outputs stay."""
    if before.outputs is rule.outputs:
        return (range(len(rule.outputs)),)
    # Mostly the same objects; only the others are compared by value, which takes longer.
    known = {id(output): at for at, output in enumerate(before.outputs)}
    found = {at: known.pop(id(output), None) for at, output in enumerate(rule.outputs)}
    missing = [at for at, place in found.items() if place is None]
    if missing and known:
        equal = {before.outputs[place]: place for place in known.values()}
        found |= {at: equal.pop(rule.outputs[at], None) for at in missing}
    return tuple(_runs(found.items()))


def arranged(
    layout: Layout, before: Sequence[T], new: Mapping[int, Iterable[T]], each: int = 1
) -> tuple[T, ...]:
    """The values of all outputs, from those before and the new ones by their places.

    Args:
        layout: the order.
        before: the values of the outputs before, `each` for every one.
        new: the values of each new output.
        each: how many values an output has.
    """
    values: list[T] = []
    for part in layout:
        if isinstance(part, range):
            values += before[part.start * each : part.stop * each]
        else:
            values += new[part]
    return tuple(values)


def new_outputs(layout: Layout, rule: ResolvedRule) -> dict[int, Sequence[ResolvedOutput]]:
    """The resolved outputs of each new one, of which a host name may have several, by its place."""
    outputs = rule.outputs
    found: dict[int, Sequence[ResolvedOutput]] = {}
    start = 0
    for part in layout:
        end = start
        if isinstance(part, range):
            end += len(part)
        else:
            while end < len(outputs) and rule.number_of(end) == part + 1:
                end += 1
            found[part] = outputs[start:end]
        start = end
    return found


def missing_runs(layout: Layout, count: int) -> Iterator[range]:
    """The places among `count` outputs before that are not in the layout."""
    start = 0
    for run in sorted((part for part in layout if isinstance(part, range)), key=_first):
        yield range(start, run.start)
        start = run.stop
    yield range(start, count)


def _first(run: range) -> int:
    return run.start


def _runs(found: Iterable[tuple[int, int | None]]) -> Iterator[range | int]:
    """Joins neighbours that were neighbours before."""
    run = range(0)
    for at, place in found:
        if place is not None and run and run.stop == place:
            run = range(run.start, place + 1)
            continue
        if run:
            yield run
        run = range(0) if place is None else range(place, place + 1)
        if place is None:
            yield at
    if run:
        yield run
