"""Checks of bridges of this host that snoop: they forward a group only where it was asked for."""

from collections.abc import Iterator, Sequence

from ..rules import Input, Rule
from ..rules.fields import Network, block_bits
from .facts import Device, Facts
from .finding import Finding

_ROOM_PART = 8  # of the groups that a bridge keeps: left to its ports
_PROTOCOLS = {4: "IGMP", 6: "MLD"}


def check_snooping(facts: Facts, device: Device, inputs: Sequence[Rule]) -> Iterator[Finding]:
    """Findings about an input that is a snooping bridge, or that such a bridge receives."""
    master = device.receiving_master
    bridge = device if master is None else facts.devices.get(master)
    if bridge is None or bridge.snooped_groups is None:
        return
    if bridge is device:
        yield from _room(device, inputs)
    versions = {rule.input.group.version for rule in inputs if joined_groups(rule.input)}
    yield from (_querier(bridge, version) for version in sorted(versions))


def joined_groups(rule_input: Input) -> int:
    """The number of groups that an input joins."""
    joins = rule_input.group.is_multicast and rule_input.effective_join == "each"
    return 1 << block_bits(rule_input.group) if joins else 0


def _querier(bridge: Device, version: int) -> Finding:
    """Whether anything asks for memberships, without which they are forgotten."""
    name, protocol = bridge.name, _PROTOCOLS[version]
    other = next((each for each in bridge.queriers if each.version == version), None)
    if other is not None:
        text = f"{other} asks for {protocol} memberships on the links of the bridge {name}"
        return Finding("querier", "ok", text, name)
    if bridge.asks_memberships:
        text = f"the bridge {name} asks for {protocol} memberships itself"
        return Finding("querier", "ok", text, name)
    text = (
        f"the bridge {name} snoops, but hears no {protocol} querier: it floods every group to all"
        " of its ports, and a switch beyond it forgets who wants a group after some minutes, so"
        " that the stream ends"
    )
    fix = f"ip link set {name} type bridge mcast_querier 1"
    return Finding("querier", "advice", text, name, fix)


def _room(device: Device, inputs: Sequence[Rule]) -> Iterator[Finding]:
    """A finding about an input that is a snooping bridge, which stops snooping when it is full."""
    if device.snooped_groups is None:
        return
    joined = {rule.input.group: joined_groups(rule.input) for rule in inputs}
    blocks = [block for block in joined if isinstance(block, Network)]
    others = sum(
        group not in joined and not any(group in block for block in blocks)
        for group in device.groups
    )
    groups, room = sum(joined.values()) + others, device.snooped_groups
    name = device.name
    if groups <= room - room // _ROOM_PART:
        text = f"{groups} of the {room} groups that the bridge {name} keeps are joined here"
        yield Finding("snooping", "ok", text, name)
        return
    text = (
        f"{groups} groups would be joined on {name}, a bridge that keeps {room}, including those of"
        " its ports: with one more it stops snooping for good and floods every group"
    )
    fix = f"ip link set {name} type bridge mcast_hash_max {1 << (2 * groups).bit_length()}"
    yield Finding("snooping", "problem", text, name, fix)
