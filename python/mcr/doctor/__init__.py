"""Diagnosis: `diagnose` finds what on this host keeps rules from working, and names each fix.

Owns what is looked at for which rules, and the one repair that is made when it is asked for. What a
rule may say is decided in `config`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address

from .. import _native
from ..errors import RuleError
from ..rules import Rule, parse_rules
from ..rules.ruleset import Ingress, resolve
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

__all__ = ["Device", "Facts", "Finding", "Severity", "diagnose", "judge", "repair"]

_STAND_IN_ADDRESSES = (ip_address("169.254.0.1"), ip_address("fe80::1"))  # RFC 3927, RFC 4291


def diagnose(*rules: Rule | str, interfaces: Iterable[str] = ()) -> tuple[Finding, ...]:
    """Look at this host with the eyes of a relay of these rules, and change nothing.

    A group that this host is no member of is joined for a moment, to see whether that works.

    Args:
        rules: what is to be relayed; they need not be running.
        interfaces: names of interfaces to look at beside those of the rules. With neither rules
            nor names every interface that is up is looked at.

    Raises:
        RuleError: rule text that cannot be read.
    """
    parsed = parse_rules(rules)
    # Of many rules the same thing is said once.
    return tuple(dict.fromkeys(judge(read_facts(parsed), parsed, tuple(interfaces))))


def judge(facts: Facts, rules: Sequence[Rule], interfaces: Sequence[str] = ()) -> Iterator[Finding]:
    """Say what the facts mean for the rules."""
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


def repair(finding: Finding) -> str | None:
    """Do what a finding advises, if that is safe and can be taken back: switch GRO on.

    Returns:
        What was done and how to undo it; None for a finding that is left to the administrator.

    Raises:
        RightsError: CAP_NET_ADMIN is missing.
        InterfaceError: the interface is gone, or cannot.
    """
    if finding.name != "gro" or finding.severity == "ok" or finding.interface is None:
        return None
    _native.switch_gro_on(finding.interface)
    name = finding.interface
    return f"GRO is switched on for {name}; 'ethtool -K {name} gro off' takes it back"


def _used(facts: Facts, rules: Iterable[Rule]) -> Iterator[str]:
    """The interfaces of rules, also those that they do not name."""
    for rule in rules:
        used = [output_interface(facts, output) for output in rule.outputs]
        yield from filter(None, [input_interface(facts, rule), *used])


def _refusals(facts: Facts, rules: Sequence[Rule]) -> Iterator[Finding]:
    """What a relay would refuse or warn about, but for the interfaces, which are judged apart."""
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
