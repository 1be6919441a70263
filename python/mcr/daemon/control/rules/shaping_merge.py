"""What a configuration makes of the classes, and of the rates of interfaces.

As with rules: what clients have added or changed at run time stays, unless it is to be pruned.
"""

from collections.abc import Mapping
from typing import TypeVar

from ....rules.shaping import Shaping

T = TypeVar("T")


def merged_shaping(
    before: Shaping, now: Shaping, wanted: Shaping | None, *, prune: bool
) -> Shaping | None:
    """The classes and rates of interfaces after a configuration was applied.

    Args:
        before: what the last configuration wanted.
        now: what is in use.
        wanted: what this configuration wants; None leaves everything.
        prune: whether to forget what was changed at run time.

    Raises:
        RuleError: together they are too many.
    """
    if prune or wanted is None:
        return wanted
    classes = _merged(before.classes, now.classes, wanted.classes)
    rates = _merged(before.rates, now.rates, wanted.rates)
    return Shaping.of(classes.values(), rates.values())


def changed_names(
    before: Shaping, after: Shaping | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the classes that differ, and of the interfaces; None is no change."""
    if after is None:
        return (), ()
    return _differing(before.classes, after.classes), _differing(before.rates, after.rates)


def _differing(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(name for name in {**before, **after} if before.get(name) != after.get(name))


def _merged(before: Mapping[str, T], now: Mapping[str, T], wanted: Mapping[str, T]) -> dict[str, T]:
    merged: dict[str, T] = {}
    for name in {**now, **wanted}:
        is_own = now.get(name) != before.get(name)
        value = (now if is_own else wanted).get(name)
        if value is not None:
            merged[name] = value
    return merged
