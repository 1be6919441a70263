"""Sentences of explanations. Pure."""

from collections.abc import Mapping, Sequence

from ..rules import Output, Rule
from ..rules.grammar import format_endpoint
from ..rules.local_host import listed
from ..rules.model import counted
from ..rules.rates import queue_in_use
from ..rules.shaping import InterfaceRate, TrafficClass
from ..rules.spec import ResolvedRule
from .results import DatagramFacts

_REASONS: Mapping[str, str] = {
    "no_rule": "no rule has this group and port on {interface}",
    "source": "rules for this group and port list other sources than {source}",
    "vlan": "the rules for this group and port are for {other_vlan}",
    "disabled": "only a disabled rule matches it",
    "fragment": "a fragment: IPv4 arrives reassembled, IPv6 not on the ingress 'packet'",
    "truncated": "the frame ends before its own headers do",
    "not_ip": "neither IPv4 nor IPv6",
    "not_udp": "IP, but not UDP",
    "bad_length": "its UDP length contradicts its IP length",
    "bad_header": "its IP header has a wrong version, length or checksum",
    "bad_checksum": "its UDP checksum is wrong, as in a capture on the sending host, or absent in"
    " IPv6",
}


def rate_text(output: Output) -> str:
    """Return what the rate of an output means for a copy as a sentence."""
    name = format_endpoint(output.address, output.interface, output.port)
    queue = queue_in_use(output.queue, output.pace)
    how = " in evenly spaced copies" if output.pace else ""
    if queue is None:
        return f"{name} sends at most {output.rate}; what exceeds it is dropped as rate_limited"
    return (
        f"{name} sends at most {output.rate}{how}; what exceeds it waits up to {queue}, and is"
        " dropped as queue_full if that is not enough"
    )


def class_text(rule: Rule, traffic_class: TrafficClass, rate: InterfaceRate) -> str:
    """Return what the rate of an interface means for the copies of a rule as a sentence."""
    rank = f"priority {traffic_class.priority}, weight {traffic_class.weight}"
    return (
        f"{rate.interface} sends at most {rate.rate}; {rule.name or rule.id} is in the class"
        f" {traffic_class.name} ({rank}), and what exceeds the share of the class is dropped as"
        " class_limited"
    )


def merge_text(rule: Rule) -> str:
    """Return what merging means for a datagram as a sentence."""
    name = rule.name or rule.id
    if rule.merge == "failover":
        condition = "it sends this input now"
    else:
        condition = "no other of its inputs has delivered it"
    return f"{name} relays it only if {condition}; else it is a duplicate"


def verdict_text(facts: DatagramFacts, reason: str | None, matched: int) -> str:
    """Return the verdict on a datagram as a sentence."""
    if reason is None:
        return f"relayed by {counted(matched)}"
    other_vlan = "untagged frames or another VLAN" if facts.vlan else "frames with a VLAN tag"
    source = facts.source or "one that is not given"
    values = {"interface": facts.interface, "source": source, "other_vlan": other_vlan}
    return f"not relayed: {_REASONS[reason].format_map(values)}"


def frame_text(reason: str) -> str:
    """Return a sentence about a frame without a datagram."""
    return f"not relayed: {_REASONS[reason]}"


def miss_text(
    miss: str, resolved: ResolvedRule, facts: DatagramFacts, winners: Sequence[Rule]
) -> str:
    """Return why a rule for the group of a datagram does not relay it."""
    rule_input = resolved.input
    if miss == "shadowed":
        names = listed(rule.name or rule.id for rule in winners)
        verb = "comes" if len(winners) == 1 else "come"
        return f"it would match, but {names} {verb} first: fewer groups, fewer ports or a source"
    if miss == "interface":
        return f"it listens on {rule_input.interface}, not on {facts.interface}"
    if miss == "port":
        return f"it has the port {rule_input.ports}, not {facts.port}"
    if miss == "vlan":
        wanted = f"VLAN {rule_input.vlan}" if rule_input.vlan else "untagged frames"
        return f"it is for {wanted}"
    if miss == "source":
        sources = listed(rule_input.sources, last=" or ")
        return f"it relays only what comes from {sources}"
    return "it is disabled"
