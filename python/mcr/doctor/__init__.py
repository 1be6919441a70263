"""Diagnosis: `diagnose` finds what on this host keeps rules from working, and names each fix.

Owns the selection of checks, and the one repair that is made on request.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address

from .. import _native
from ..choices import Ingress
from ..errors import ArgumentError, RuleError
from ..rules import Rule, parse_rules
from ..rules.ruleset import resolve
from .altnames import by_own_names, check_names, own_name
from .checks import (
    check_host,
    check_interface,
    check_mtu,
    check_route,
    input_interface,
    output_interface,
)
from .facts import Device, Facts, read_facts
from .finding import Finding, Severity
from .offload import check_offload
from .xdp import check_group_routes, check_xdp

__all__ = ["Device", "Facts", "Finding", "Severity", "diagnose", "judge", "repair"]

_STAND_IN_ADDRESSES = (ip_address("169.254.0.1"), ip_address("fe80::1"))  # RFC 3927, RFC 4291


def diagnose(*rules: Rule | str, interfaces: Iterable[str] = ()) -> tuple[Finding, ...]:
    """Check this host for a relay of these rules; change nothing that lasts.

    A group of which this host is not a member is joined for a moment, to test that it can be.

    Args:
        rules: the rules to check; they need not be running.
        interfaces: names of interfaces to check in addition to those of the rules. Without rules
            and names every interface that is up is checked.

    Raises:
        RuleError: the text of a rule is invalid.
        ArgumentError: the interfaces are not a sequence of names.
    """
    parsed = parse_rules(rules)
    if isinstance(interfaces, str) or not isinstance(interfaces, Iterable):
        raise ArgumentError("interfaces are a sequence; write [interface] for a single one")
    names = tuple(interfaces)
    if not all(isinstance(name, str) for name in names):
        raise ArgumentError(f"interfaces must be names, not {names!r}")
    # Many rules may lead to the same finding.
    return tuple(dict.fromkeys(judge(read_facts(parsed), parsed, names)))


def judge(facts: Facts, rules: Sequence[Rule], interfaces: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield the findings that follow from the facts for the rules."""
    written, rules = rules, [by_own_names(rule, facts.devices) for rule in rules]
    yield from check_host(facts, rules)
    yield from _refusals(facts, rules)
    yield from check_names(written, interfaces, facts.devices)
    named = list(_used(facts, rules))
    named += [own_name(name, facts.devices) or name for name in interfaces]
    if not named:
        named = [name for name, device in facts.devices.items() if device.up]
    for name in dict.fromkeys(named):
        yield from check_interface(facts, name, rules)
    for rule in rules:
        yield from check_mtu(facts, rule)
    outputs = dict.fromkeys(output for rule in rules for output in rule.outputs)
    for output in outputs:
        yield from check_route(facts, output)
    yield from check_xdp(facts, outputs)
    yield from check_group_routes(facts, outputs)
    ways = [output_interface(facts, output) for output in outputs]
    yield from check_offload(facts, rules, [*filter(None, ways)])


def repair(finding: Finding) -> str | None:
    """Make the repair that a finding advises, if it is safe and can be undone: turn GRO on.

    Returns:
        A sentence with the repair and how to undo it; None for a finding that is left to the
        administrator.

    Raises:
        RightsError: CAP_NET_ADMIN is missing.
        InterfaceError: the interface was removed, or does not support GRO.
    """
    if finding.name != "gro" or finding.severity == "ok" or finding.interface is None:
        return None
    _native.switch_gro_on(finding.interface)
    name = finding.interface
    return f"turned GRO on for {name}; 'ethtool -K {name} gro off' undoes it"


def _used(facts: Facts, rules: Iterable[Rule]) -> Iterator[str]:
    """The interfaces of rules, including those that they do not name."""
    for rule in rules:
        used = [output_interface(facts, output) for output in rule.outputs]
        yield from filter(None, [input_interface(facts, rule), *used])


def _refusals(facts: Facts, rules: Sequence[Rule]) -> Iterator[Finding]:
    """Refusals and warnings of a relay, except those about interfaces, which have their checks."""
    devices = [replace(device, up=True, multicast=True) for device in facts.devices.values()]
    missing = [name for name in dict.fromkeys(_used(facts, rules)) if name not in facts.devices]
    stand_ins = [Device(name, 0, addresses=_STAND_IN_ADDRESSES) for name in missing]
    try:
        ingress: Ingress = "packet" if facts.packet_sockets else "udp"
        warnings = resolve(rules, [*devices, *stand_ins], ingress=ingress).warnings
    except RuleError as error:
        for problem in error.problems:
            yield Finding("rule", "problem", str(problem))
    else:
        for warning in warnings:
            yield Finding("rule", "advice", warning)
