"""Alternative names of interfaces, replaced by the own names under which facts are kept."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from ..rules import Rule
from .facts import Device
from .finding import Finding


def own_name(name: str | None, devices: Mapping[str, Device]) -> str | None:
    """The own name of the interface with this name; the name itself if there is none."""
    if name is None or name in devices:
        return name
    named_so = (device.name for device in devices.values() if name in device.names)
    return next(named_so, name)


def by_own_names(rule: Rule, devices: Mapping[str, Device]) -> Rule:
    """The rule, with the own names of its interfaces."""
    if all(own_name(name, devices) == name for name in _names(rule)):
        return rule
    rule_input = replace(rule.input, interface=own_name(rule.input.interface, devices))
    outputs = tuple(
        replace(output, interface=own_name(output.interface, devices)) for output in rule.outputs
    )
    return replace(rule, input=rule_input, outputs=outputs)


def check_names(
    rules: Iterable[Rule], interfaces: Iterable[str], devices: Mapping[str, Device]
) -> Iterator[Finding]:
    """Yield a finding for each alternative name, with the interface that has it."""
    names = (name for rule in rules for name in _names(rule))
    for name in dict.fromkeys((*names, *interfaces)):
        own = own_name(name, devices)
        if own is not None and own != name:
            yield Finding("link", "ok", f"{name} is an alternative name of {own}", own)


def _names(rule: Rule) -> Iterator[str | None]:
    yield rule.input.interface
    yield from (output.interface for output in rule.outputs)
