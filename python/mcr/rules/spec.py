"""A rule as the native core takes it: every name looked up, every default filled in.

Owns the shape, and the JSON that the core reads, in this process and in a worker's; how a rule
becomes one is the business of `resolver`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from .fields import Address, Join, Keep, Network, Ttl, block_of
from .grammar import format_ports

UNRESOLVED: Mapping[int, Address] = {4: IPv4Address(0), 6: IPv6Address(0)}
"""The address of an output whose host name does not resolve yet, by the version; the core parks
it."""


@dataclass(frozen=True, slots=True)
class ResolvedInput:
    """An input as the native core takes it."""

    group: Address
    """Of a block the first."""
    group_bits: int
    """How many low bits of the group vary; 0 for one group."""
    port: int
    last_port: int
    """The same as the first for one port."""
    interface: str
    """Its name, or an alternative one, as the rule has it; empty while no interface has the address
    of an input that names none."""
    ifindex: int = field(compare=False)
    """As it is now; 0 while there is no such interface. A relay follows the name instead."""
    sources: tuple[Address, ...]
    vlan: int
    """0 takes untagged frames."""
    join: Join
    """Counts for groups only."""
    broadcast: bool = False
    """Whether `group` is a broadcast address."""
    device: str = field(default="", compare=False)
    """The interface's own name, as it is now; as the rule has it while there is none."""
    everywhere: bool = False
    """Whether `group` is an address of this host whose datagrams count wherever they arrive."""
    is_known: bool = field(default=True, compare=False)
    """Whether `group` was multicast, or an address or broadcast of this host, when it was resolved.

    If not it may become either, and `interface` is empty if the rule names none.
    """

    @property
    def block(self) -> Address | Network:
        """The group, or the block of groups, as it is written."""
        return block_of(self.group, self.group_bits)

    @property
    def is_shared(self) -> bool:
        """Whether what is sent there is for every host of a link that wants it."""
        return self.group.is_multicast or self.broadcast

    @property
    def ports(self) -> str:
        """The port or ports as they are written."""
        if self.port == self.last_port:
            return str(self.port)
        return format_ports(range(self.port, self.last_port + 1))


@dataclass(frozen=True, slots=True)
class ResolvedOutput:
    """An output as the native core takes it."""

    address: Address
    """Of a block the first."""
    address_bits: int
    """How many low bits of the address follow the input's group; 0 for one address."""
    port: int
    last_port: int
    """The same as the first for one port; else the port follows the input's."""
    interface: str
    """Its name, or an alternative one; empty leaves the choice to the routing table."""
    ifindex: int = field(compare=False)
    """As it is now; 0 while there is no such interface, or to leave it to the routing table."""
    ttl: Ttl
    dscp: int | Keep
    source: Address | Keep | None
    source_port: int | Keep | None
    loop: bool
    priority: int | None
    broadcast: bool = False
    """Whether `address` is a broadcast address of its interface."""
    device: str = field(default="", compare=False)
    """The interface's own name, as it is now; as the rule has it while there is none."""
    number: int = 1
    """Of the rule's output that it came of, from 1: a host name may become several."""

    @property
    def block(self) -> Address | Network:
        """The address, or the block of groups, as it is written."""
        return block_of(self.address, self.address_bits)

    @property
    def is_resolved(self) -> bool:
        """Whether the address is known, which that of a host name may not be yet."""
        return self.address not in UNRESOLVED.values()

    @property
    def is_shared(self) -> bool:
        """Whether copies are for every host of a link that wants them."""
        return self.address.is_multicast or self.broadcast


@dataclass(frozen=True, slots=True)
class ResolvedRule:
    """A rule as the native core takes it."""

    input: ResolvedInput
    outputs: tuple[ResolvedOutput, ...]
    id: str
    enabled: bool = field(default=True, compare=False)
    """Whether it takes datagrams now; a rule is the same either way."""

    @property
    def is_final(self) -> bool:
        """Whether all was known that it is made of; else it is to be resolved again."""
        return self.input.is_known and all(output.is_resolved for output in self.outputs)


def input_spec(taken: ResolvedInput) -> bytes:
    """The JSON object of an input."""
    return _encode(_input(taken))


def output_spec(output: ResolvedOutput) -> bytes:
    """The JSON object of an output."""
    return _encode(_output(output))


def spec_members(rule: ResolvedRule) -> bytes:
    """The JSON members of a rule beside its id and `enabled`, with the closing brace."""
    members = {"input": _input(rule.input), "outputs": [_output(each) for each in rule.outputs]}
    return _encode(members)[1:]


def rule_spec(rule_id: str, members: bytes, *, enabled: bool) -> bytes:
    """The JSON object of a rule with these `spec_members`."""
    return b'{"id":%s,"enabled":%s,%s' % (_encode(rule_id), _encode(enabled), members)


def rule_specs(rules: Iterable[ResolvedRule]) -> bytes:
    """The JSON array of rules."""
    specs = (rule_spec(rule.id, spec_members(rule), enabled=rule.enabled) for rule in rules)
    return b"[" + b",".join(specs) + b"]"


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _input(taken: ResolvedInput) -> dict[str, Any]:
    return {
        "group": str(taken.group),
        "group_bits": taken.group_bits,
        "port": taken.port,
        "last_port": taken.last_port,
        "interface": taken.interface,
        "ifindex": taken.ifindex,
        "sources": [str(source) for source in taken.sources],
        "vlan": taken.vlan,
        "join": taken.join,
        "broadcast": taken.broadcast,
        "everywhere": taken.everywhere,
    }


def _output(output: ResolvedOutput) -> dict[str, Any]:
    return {
        "address": str(output.address),
        "address_bits": output.address_bits,
        "port": output.port,
        "last_port": output.last_port,
        "interface": output.interface,
        "ifindex": output.ifindex,
        "ttl": output.ttl,
        "dscp": output.dscp,
        "source": None if output.source is None else str(output.source),
        "source_port": output.source_port,
        "loop": output.loop,
        "priority": output.priority,
    }
