"""Explanations of datagrams by rules that run, or that are only written."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import islice
from typing import Any

from .. import _native
from ..choices import Ingress
from ..rules import Rule
from ..rules.active_rule import HostedRule
from ..rules.fields import Address
from ..rules.local_host import LocalHost, listed
from ..rules.ruleset import RuleSet
from ..rules.shaping import DEFAULT_CLASS, NO_SHAPING, Shaping
from ..rules.spec import ResolvedRule, rule_specs
from .results import (
    RELAYED,
    CopyExplanation,
    DatagramFacts,
    Explanation,
    OtherRule,
    RuleExplanation,
)
from .sentences import class_text, merge_text, miss_text, rate_text, verdict_text
from .words import checked, datagram_facts

Obstacles = tuple[str | None, Sequence[str | None]]
"""Why the input of a running rule receives nothing, and why each of its outputs is parked."""
_MOST_OTHERS = 20
_MOST_RATES = 20
_UNSPECIFIED: dict[int, Address] = {4: ip_address("0.0.0.0"), 6: ip_address("::")}
_FRAGMENTED_ABOVE_BYTES = 40 + 8  # the headers of IPv6 and UDP


class RuleExplainer:
    """Rules of this host, compiled to explain datagrams."""

    def __init__(
        self,
        rules: Iterable[HostedRule],
        ingress: Ingress,
        obstacles: Callable[[str], Obstacles] | None = None,
        shaping: Shaping = NO_SHAPING,
    ) -> None:
        """Compile the rules.

        Args:
            rules: all rules of the relay.
            ingress: how it receives.
            obstacles: for a running relay, what is known of a rule by its id.
            shaping: the classes, and the rates of interfaces.
        """
        self._host = LocalHost(_native.interfaces(), ingress)
        # An input that waits for its address has no interface yet, and so is not in the table.
        self._rules = [rule for rule in _by_input(rules) if rule.resolved.input.device]
        self._shaping = shaping
        self._obstacles = obstacles
        devices = dict.fromkeys(rule.resolved.input.device for rule in self._rules)
        self._numbers = {device: number for number, device in enumerate(devices, 1)}
        self._core = _native.RuleExplainer(rule_specs(self._numbered()))

    def explain(self, given: DatagramFacts | str) -> Explanation:
        """Explain what becomes of one datagram, in words or as a value.

        Raises:
            RuleError: the datagram is invalid; `problems` has all problems.
            InterfaceError: the kernel does not list links or routes.
        """
        facts = checked(datagram_facts(given))
        source = _UNSPECIFIED[facts.group.version] if facts.source is None else facts.source
        sender, destination = (source, facts.source_port), (facts.group, facts.port)
        datagram = (sender, destination, facts.ttl, facts.dscp, facts.vlan, facts.size_bytes)
        matched, reason, others = self._find(facts, datagram)
        if self._arrives_in_fragments(facts):
            matched, reason = [], "fragment"
        copies = self._core.copies(matched, datagram)
        found = zip(matched, copies, strict=True)
        return Explanation(
            datagram=facts,
            verdict=reason or RELAYED,
            text=verdict_text(facts, reason, len(matched)),
            rules=tuple(self._rule(index, of, facts) for index, of in found),
            others=tuple(self._other(index, miss, facts, matched) for index, miss in others),
            notes=(
                *self._notes(facts),
                *self._merges(matched),
                *islice(self._rates(matched), _MOST_RATES),
                *islice(self._classes(matched, copies), _MOST_RATES),
            ),
        )

    def _numbered(self) -> Iterator[tuple[ResolvedRule, bool]]:
        """The rules with numbers of this object for the interfaces of their inputs."""
        for rule in self._rules:
            rule_input = rule.resolved.input
            number = self._numbers[rule_input.device]
            yield (
                replace(rule.resolved, input=replace(rule_input, ifindex=number)),
                rule.enabled,
            )

    def _find(self, facts: DatagramFacts, datagram: Any) -> tuple[list[int], str | None, Any]:  # noqa: ANN401 -- of the core
        device = self._host.device(facts.interface)
        own = self._numbers.get(device, len(self._numbers) + 1)
        found = self._core.explain(own, datagram, _MOST_OTHERS)
        # An address of this host is received on every interface, and counts on the one that has it.
        everywhere = {
            self._numbers[rule.resolved.input.device]
            for rule in self._rules
            if rule.resolved.input.everywhere and rule.resolved.input.group == facts.group
        }
        for number in everywhere:
            if not found[0]:
                found = self._core.explain(number, datagram, _MOST_OTHERS)
        return found

    def _arrives_in_fragments(self, facts: DatagramFacts) -> bool:
        """Whether `packet` gets it in pieces: nothing reassembles IPv6 for it."""
        if self._host.ingress != "packet" or facts.group.version == 4:  # noqa: PLR2004
            return False
        interface = self._host.interface(facts.interface)
        mtu = getattr(interface, "mtu", 0)
        return bool(mtu) and facts.size_bytes + _FRAGMENTED_ABOVE_BYTES > mtu

    def _rule(
        self, index: int, copies: list[dict[str, Any]], facts: DatagramFacts
    ) -> RuleExplanation:
        rule = self._rules[index]
        obstacle, parked = self._known(rule)
        outputs = []
        for place, copy in enumerate(copies):
            why = parked[place] if place < len(parked) else None
            if why is not None and copy["loss"] is None:
                copy |= {"loss": "no_carrier", "why": why}
            text = str(rule.rule.outputs[rule.resolved.number_of(place) - 1])
            outputs.append(CopyExplanation(text, **copy, size_bytes=facts.size_bytes))
        written = rule.rule
        return RuleExplanation(written.id, written.name, str(written), obstacle, tuple(outputs))

    def _known(self, rule: HostedRule) -> Obstacles:
        if self._obstacles is not None:
            return self._obstacles(rule.resolved.id)
        device = rule.resolved.input.device
        interface = self._host.interface(device)
        if interface is None:
            return f"this host has no interface {device}", ()
        if not interface.up:
            return f"{device} is down", ()
        return (None if getattr(interface, "carrier", True) else f"{device} has no carrier"), ()

    def _other(
        self, index: int, miss: str, facts: DatagramFacts, matched: Sequence[int]
    ) -> OtherRule:
        rule = self._rules[index]
        winners = [self._rules[each].rule for each in matched]
        text = miss_text(miss, rule.resolved, facts, winners)
        return OtherRule(rule.rule.id, rule.rule.name, str(rule.rule), miss, text)

    def _rates(self, matched: Iterable[int]) -> Iterator[str]:
        for index in matched:
            limited = (each for each in self._rules[index].rule.outputs if each.rate is not None)
            yield from map(rate_text, limited)

    def _classes(
        self, matched: Iterable[int], copies: Iterable[Sequence[dict[str, Any]]]
    ) -> Iterator[str]:
        for index, of_rule in zip(matched, copies, strict=True):
            rule = self._rules[index].rule
            traffic_class = self._shaping.classes[rule.traffic_class or DEFAULT_CLASS]
            for name in dict.fromkeys(copy["interface"] for copy in of_rule):
                if name in self._shaping.rates:
                    yield class_text(rule, traffic_class, self._shaping.rates[name])

    def _merges(self, matched: Iterable[int]) -> Iterator[str]:
        rules = (self._rules[index].rule for index in matched)
        return (merge_text(rule) for rule in rules if rule.merge is not None)

    def _notes(self, facts: DatagramFacts) -> Iterator[str]:
        name = facts.interface
        if self._host.interface(name) is None:
            yield f"this host has no interface {name}; it has {listed(self._host.names)}"
        if facts.source is None:
            yield "no source is given: rules that list sources do not match"
        elif self._host.ingress == "packet" and self._host.owners(facts.source):
            yield (
                f"{facts.source} is an address of this host: the ingress 'packet' does not see"
                " what this host sends"
            )
        if self._host.ingress == "udp" and facts.vlan:
            yield "the ingress 'udp' sees no VLAN tags; the kernel delivers such a frame elsewhere"


@dataclass(frozen=True, slots=True)
class _InputRule:
    """A rule with one of the inputs that it merges."""

    rule: Rule
    resolved: ResolvedRule
    enabled: bool


def _by_input(rules: Iterable[HostedRule]) -> Iterator[HostedRule]:
    """The rules, those that merge once for each input."""
    for each in rules:
        if each.resolved.merge is None:
            yield each
            continue
        for rule_input in each.resolved.inputs:
            alone = replace(each.resolved, input=rule_input, others=(), merge=None)
            yield _InputRule(each.rule, alone, each.enabled)


def explain_rules(
    rules: Iterable[Rule | str], ingress: Ingress, enabled: Mapping[str, bool] | None = None
) -> tuple[RuleExplainer, tuple[str, ...]]:
    """Compile rules that need not run, on this host as it is now.

    Args:
        rules: the rules.
        ingress: how a relay would receive.
        enabled: by id, whether rules are enabled; the others are.

    Returns:
        The compiled rules, and warnings about them.

    Raises:
        RuleError: the rules cannot be used together, or not on this host.
    """
    plan = RuleSet(ingress).plan(_native.interfaces(), add=rules, enabled=enabled or {})
    return RuleExplainer([step.after for step in plan.steps], ingress), plan.warnings
