"""Classes of traffic, and the rates of output interfaces that they share.

Owns the values, their ranges and what the core makes of them. Which rule is in which class is a
part of the rule.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self, TypeVar

from ..errors import ArgumentError, Problem, RuleError
from . import fields, rates
from .fields import Invalid, ProblemCollector

DEFAULT_CLASS = "default"
"""The class of rules that name none."""
PRIORITY_LIMIT = 7
WEIGHT_LIMIT = 1000
CLASSES_LIMIT = 16
"""The most classes: an interface with a rate has a token bucket for each."""
INTERFACES_LIMIT = 1024
DEFAULT_PRIORITY = 3
DEFAULT_WEIGHT = 1
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)
T = TypeVar("T")
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def _all(values: Iterable[T], what: str) -> Iterable[T]:
    if not isinstance(values, Iterable):
        raise ArgumentError(f"{what} are a sequence, not {values!r}")
    return values


def _an(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise ArgumentError(f"must be an mcr.{kind.__name__}, not {value!r}")
    return value


def class_name(value: object) -> str:
    """The name of a class: 1 to 32 letters, digits, dots, hyphens and underscores."""
    if not isinstance(value, str):
        raise Invalid(f"must be a string, not {value!r}")
    if _NAME.fullmatch(value) is None:
        raise Invalid(
            f"{value!r} is not a name of a class; write 1 to 32 letters, digits, '.', '-' or '_'"
        )
    return value


def priority(value: object) -> int:
    """The priority of a class; a higher one is served first."""
    return fields.integer(value, 0, PRIORITY_LIMIT)


def weight(value: object) -> int:
    """The share of a class among those of its priority."""
    return fields.integer(value, 1, WEIGHT_LIMIT)


@dataclass(frozen=True, slots=True)
class TrafficClass:
    """A class of traffic."""

    name: str
    priority: int = DEFAULT_PRIORITY
    """0 to 7. An interface whose rate is exceeded sends nothing of a class that a class of a higher
    priority needs."""
    weight: int = DEFAULT_WEIGHT
    """1 to 1000: its share among the classes of its priority."""

    def __post_init__(self) -> None:
        """Checks every field.

        Raises:
            RuleError: with a problem for each invalid field.
        """
        check = ProblemCollector()
        check.field("class", class_name, self.name)
        check.field("priority", priority, self.priority)
        check.field("weight", weight, self.weight)
        check.raise_if_any()


@dataclass(frozen=True, slots=True)
class InterfaceRate:
    """The most that all outputs on an interface send together."""

    interface: str
    """Its name or an alternative one, which may move to another interface."""
    rate: str
    """Bits of payload or datagrams a second, such as ``100mbit`` or ``20kpps``, in canonical
    text."""
    burst: int | None = None
    """Bytes or datagrams that a class sends at once after a rest; None is what the rate gives in
    10 ms, at least 65535 bytes or 64 datagrams."""

    def __post_init__(self) -> None:
        """Checks every field, and makes the rate canonical.

        Raises:
            RuleError: with a problem for each invalid field.
        """
        check = ProblemCollector()
        check.field("interface", fields.interface, self.interface)
        rate = check.field("rate", rates.rate, self.rate)
        if rate is not None:
            check.optional("burst", lambda value: rates.burst_of(rate, value), self.burst)
        check.raise_if_any()
        object.__setattr__(self, "rate", rate)


def _default_class() -> Mapping[str, TrafficClass]:
    return MappingProxyType({DEFAULT_CLASS: TrafficClass(DEFAULT_CLASS)})


@dataclass(frozen=True, slots=True)
class Shaping:
    """All classes, and all interfaces with a rate; a value, of which a change makes another."""

    classes: Mapping[str, TrafficClass] = field(default_factory=_default_class)
    """By name, among them ``default``."""
    rates: Mapping[str, InterfaceRate] = field(default_factory=lambda: MappingProxyType({}))
    """By interface."""

    @classmethod
    def of(cls, classes: Iterable[TrafficClass] = (), rates: Iterable[InterfaceRate] = ()) -> Self:
        """These classes and rates, with the class ``default``.

        Raises:
            RuleError: there are too many, or two with the same name.
            ArgumentError: one is of another type.
        """
        shaping, problems = cls(), list[Problem]()
        seen = set[str]()
        for each in (_an(TrafficClass, one) for one in _all(classes, "classes")):
            if each.name in seen:
                problems.append(Problem(("class", each.name), "is given twice; omit one"))
            seen.add(each.name)
            shaping = replace(shaping, classes={**shaping.classes, each.name: each})
        for own in (_an(InterfaceRate, one) for one in _all(rates, "rates of interfaces")):
            if own.interface in shaping.rates:
                problems.append(Problem(("interface", own.interface), "is given twice; omit one"))
            shaping = replace(shaping, rates={**shaping.rates, own.interface: own})
        if problems:
            raise RuleError(problems)
        return shaping._checked()

    def with_class(self, traffic_class: TrafficClass) -> Self:
        """With a class, in place of one with its name.

        Raises:
            RuleError: there would be too many.
            ArgumentError: it is of another type.
        """
        classes = {**self.classes, _an(TrafficClass, traffic_class).name: traffic_class}
        return replace(self, classes=classes)._checked()

    def without_class(self, name: str) -> Self:
        """Without a class; ``default`` gets its usual priority and weight.

        Raises:
            RuleError: there is none.
        """
        if not isinstance(name, str) or name not in self.classes:
            known = ", ".join(self.classes)
            raise RuleError([("class", f"there is no class {name!r}; the classes are {known}")])
        kept = {each: own for each, own in self.classes.items() if each != name}
        return replace(self, classes={**_default_class(), **kept})

    def with_rate(self, rate: InterfaceRate) -> Self:
        """With the rate of an interface, in place of that it had.

        Raises:
            RuleError: there would be too many.
            ArgumentError: it is of another type.
        """
        rates = {**self.rates, _an(InterfaceRate, rate).interface: rate}
        return replace(self, rates=rates)._checked()

    def without_rate(self, interface: str) -> Self:
        """Without the rate of an interface.

        Raises:
            RuleError: it has none.
        """
        if not isinstance(interface, str) or interface not in self.rates:
            known = ", ".join(self.rates) or "none"
            text = f"{interface!r} has no rate; interfaces with one: {known}"
            raise RuleError([("interface", text)])
        kept = {each: own for each, own in self.rates.items() if each != interface}
        return replace(self, rates=kept)

    def check_users(self, rules: Iterable[tuple[str | None, str]]) -> None:
        """Refuses classes without one that a rule is in.

        Args:
            rules: the class that each names, and what it is called.

        Raises:
            RuleError: with the first rule of each missing class.
        """
        missing: dict[str, str] = {}
        for name, label in rules:
            if name is not None and name not in self.classes:
                missing.setdefault(name, label)
        if missing:
            raise RuleError(
                (
                    "class",
                    f"{name!r} is in use by rule {label}; give its rules another class first, or"
                    " remove them",
                )
                for name, label in missing.items()
            )

    def unknown(self, name: str) -> str:
        """The sentence about a class that is not defined."""
        known = ", ".join(self.classes)
        return (
            f"{name!r} is not defined; define it first ([classes.{name}] in the configuration, or"
            f" 'mcr class set {name}'), or write one of: {known}"
        )

    def _checked(self) -> Self:
        problems = list[Problem]()
        if len(self.classes) > CLASSES_LIMIT:
            problems.append(Problem("classes", f"there are more than {CLASSES_LIMIT}; remove some"))
        if len(self.rates) > INTERFACES_LIMIT:
            text = f"more than {INTERFACES_LIMIT} have a rate; remove some"
            problems.append(Problem("interfaces", text))
        if problems:
            raise RuleError(problems)
        return self


NO_SHAPING = Shaping()
"""No class but the default, and no interface with a rate."""


def shaping_spec(shaping: Shaping) -> bytes:
    """The JSON object for the native core, in this process and in a worker."""
    return _ENCODER.encode(
        {
            "classes": [
                {"name": each.name, "priority": each.priority, "weight": each.weight}
                for each in shaping.classes.values()
            ],
            "interfaces": [
                {
                    "interface": each.interface,
                    "rate": rates.rate_members(each.rate, each.burst, None, pace=False),
                }
                for each in shaping.rates.values()
            ],
        }
    ).encode()


def shaping_object(shaping: Shaping) -> dict[str, Any]:
    """The tables ``classes`` and ``interfaces`` of a configuration; empty ones are left out.

    Raises:
        ArgumentError: it is of another type.
    """
    _an(Shaping, shaping)
    classes = {
        each.name: {"priority": each.priority, "weight": each.weight}
        for each in shaping.classes.values()
        if each != TrafficClass(DEFAULT_CLASS)
    }
    interfaces = {
        each.interface: {"rate": each.rate} | ({} if each.burst is None else {"burst": each.burst})
        for each in shaping.rates.values()
    }
    tables = {"classes": classes, "interfaces": interfaces}
    return {name: own for name, own in tables.items() if own}
