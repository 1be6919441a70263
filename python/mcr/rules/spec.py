"""Rules resolved for the native core: all names looked up, all defaults filled in.

Owns the types and the JSON that the core reads, in this process and in a worker. `resolver` creates
the values.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from .durations import milliseconds
from .fields import Address, Join, Keep, Network, Ttl, block_of
from .grammar import format_ports
from .rates import rate_members
from .redundancy import Late, after_ms_in_use

UNRESOLVED: Mapping[int, Address] = {4: IPv4Address(0), 6: IPv6Address(0)}
"""The address of an output whose host name is not resolved yet, by IP version; it is parked."""
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class ResolvedInput:
    """An input, resolved on this host."""

    group: Address
    """The group, or the first one of a block."""
    group_bits: int
    """The number of low bits of the group that vary; 0 for one group."""
    port: int
    last_port: int
    """Equal to `port` for a single port."""
    interface: str
    """The name or alternative name, as written; empty for an input without an interface while no
    interface has its address."""
    ifindex: int = field(compare=False)
    """The current index; 0 while the interface is missing. A relay follows the name instead."""
    sources: tuple[Address, ...]
    vlan: int
    """0 for untagged frames."""
    join: Join
    """Meaningful for groups only."""
    broadcast: bool = False
    """Whether `group` is a broadcast address."""
    device: str = field(default="", compare=False)
    """The interface's current own name; the written name while the interface is missing."""
    everywhere: bool = False
    """Whether `group` is an address of this host, received on any interface."""
    seq: str | None = None
    """How datagrams are numbered, in canonical text; None recognises it."""
    is_known: bool = field(default=True, compare=False)
    """Whether `group` was multicast, or an address or broadcast of this host, when it was resolved.

    If not, it may become one later, and `interface` is empty if the rule names none.
    """

    @property
    def block(self) -> Address | Network:
        """The group or block of groups, as written."""
        return block_of(self.group, self.group_bits)

    @property
    def is_shared(self) -> bool:
        """Whether several hosts of a link can receive the datagrams."""
        return self.group.is_multicast or self.broadcast

    @property
    def ports(self) -> str:
        """The port or range of ports, as written."""
        if self.port == self.last_port:
            return str(self.port)
        return format_ports(range(self.port, self.last_port + 1))


@dataclass(frozen=True, slots=True)
class ResolvedOutput:
    """An output, resolved on this host."""

    address: Address
    """The address, or the first one of a block."""
    port: int
    last_port: int
    """Equal to `port` for a single port; otherwise the port follows the input's."""
    ttl: Ttl
    address_bits: int = 0
    """The number of low bits of the address that follow the input's group; 0 for one address."""
    interface: str = ""
    """The name or alternative name; empty leaves the choice to the routing table."""
    ifindex: int = field(default=0, compare=False)
    """The current index; 0 while the interface is missing, or if the routing table decides."""
    dscp: int | Keep = 0
    source: Address | Keep | None = None
    source_port: int | Keep | None = None
    loop: bool = True
    priority: int | None = None
    rate: str | None = None
    burst: int | None = None
    queue: str | None = None
    pace: bool = False
    broadcast: bool = False
    """Whether `address` is a broadcast address of its interface."""
    device: str = field(default="", compare=False)
    """The interface's current own name; the written name while the interface is missing."""

    @property
    def block(self) -> Address | Network:
        """The address or block of groups, as written."""
        return block_of(self.address, self.address_bits)

    @property
    def is_resolved(self) -> bool:
        """Whether the address is known; that of a host name may be unknown."""
        return int(self.address) != 0

    @property
    def is_shared(self) -> bool:
        """Whether several hosts of a link can receive the copies."""
        return self.address.is_multicast or self.broadcast


@dataclass(frozen=True, slots=True)
class ResolvedRule:
    """A rule, resolved on this host."""

    input: ResolvedInput
    outputs: tuple[ResolvedOutput, ...]
    id: str
    numbers: tuple[int, ...] | None = None
    """The number of the rule's output, from 1, that each is of, as a host name may resolve to
    several; None if each output has one, in order."""
    others: tuple[ResolvedInput, ...] = ()
    """The other inputs, which are merged with the first."""
    merge: str | None = None
    """By what datagrams of all inputs are known to be the same, in canonical text."""
    late: Late | None = None
    """What becomes of datagrams behind later ones; None sends them."""
    after: str | None = None
    """The silence after which a failover sends another input, in canonical text."""
    reorder: str | None = None
    """How long what is ahead of a gap is held, in canonical text; None sends it at once."""
    traffic_class: str | None = None
    """The class of its copies; None is the default."""

    @property
    def inputs(self) -> tuple[ResolvedInput, ...]:
        """All inputs, in order."""
        return (self.input, *self.others)

    @property
    def senders(self) -> Sequence[tuple[ResolvedInput, Address | None]]:
        """Each input with each of the senders that it accepts; None for all of them."""
        return [(each, source) for each in self.inputs for source in each.sources or (None,)]

    def number_of(self, place: int) -> int:
        """The number of the rule's output that the output at this place is of."""
        return place + 1 if self.numbers is None else self.numbers[place]

    @property
    def numbered(self) -> Iterable[tuple[int, ResolvedOutput]]:
        """The outputs, each after its number."""
        numbers = range(1, len(self.outputs) + 1) if self.numbers is None else self.numbers
        return zip(numbers, self.outputs, strict=True)

    @property
    def is_final(self) -> bool:
        """Whether all its parts were known; otherwise it must be resolved again."""
        is_known = all(each.is_known for each in self.inputs)
        return is_known and all(output.is_resolved for output in self.outputs)


def input_spec(rule_input: ResolvedInput) -> bytes:
    """The JSON object of an input."""
    # Written by hand, as that of an output: for thousands of rules an encoder takes thrice as long.
    own = rule_input
    sources = ",".join(f'"{source}"' for source in own.sources)
    seq = "" if own.seq is None else f',"sequence":{_ENCODER.encode(_sequence(own.seq))}'
    return (
        f'{{"group":"{own.group}","group_bits":{own.group_bits},"port":{own.port},'
        f'"last_port":{own.last_port},"interface":{_ENCODER.encode(own.interface)},'
        f'"ifindex":{own.ifindex},"sources":[{sources}],"vlan":{own.vlan},"join":"{own.join}",'
        f'"broadcast":{_boolean(own.broadcast)},"everywhere":{_boolean(own.everywhere)}{seq}}}'
    ).encode()


def output_spec(output: ResolvedOutput) -> bytes:
    """The JSON object of an output."""
    ttl = f'"{output.ttl}"' if isinstance(output.ttl, str) else output.ttl
    unusual = _unusual(output)
    rest = f",{_ENCODER.encode(unusual)[1:-1]}" if unusual else ""
    interface = ""
    if output.interface:
        name = _ENCODER.encode(output.interface)
        interface = f',"interface":{name},"ifindex":{output.ifindex}'
    return (
        f'{{"address":"{output.address}","port":{output.port},"last_port":{output.last_port},'
        f'"ttl":{ttl}{interface}{rest}}}'
    ).encode()


def beside_specs(outputs: Iterable[ResolvedOutput]) -> dict[int, dict[str, Any]]:
    """What the specifications of outputs do not say, by places, where it is not the usual."""
    return {
        place: {"broadcast": each.broadcast, "device": each.device}
        for place, each in enumerate(outputs)
        if each.broadcast or each.device != each.interface
    }


def spec_members(rule: ResolvedRule, outputs: Iterable[bytes]) -> bytes:
    """The JSON members of a rule beside its id and `enabled`, with the closing brace.

    Args:
        rule: the rule, of which the outputs are not used.
        outputs: the `output_spec` of each output.
    """
    merge = b"" if rule.merge is None else b',"merge":%s' % _merge(rule)
    members = (input_spec(rule.input), b",".join(outputs), merge, _class_member(rule))
    return b'"input":%s,"outputs":[%s]%s%s}' % members


def leg_id(rule_id: str, leg: int) -> str:
    """The id under which the native core counts the input with this number, from 0, of a rule."""
    return f"{rule_id}/{leg + 1}" if leg else rule_id


def rule_of_leg(leg: str) -> str:
    """The id of the rule that has the input with this id."""
    return leg.partition("/")[0]


def rule_spec(rule_id: str, members: bytes, *, enabled: bool) -> bytes:
    """The JSON object of a rule with these `spec_members`."""
    return b'{"id":%s,"enabled":%s,%s' % (_encode(rule_id), _boolean(enabled).encode(), members)


def edit_spec(
    rule: ResolvedRule,
    layout: Iterable[range | int],
    new: Mapping[int, Sequence[ResolvedOutput]],
    specs: Sequence[bytes],
    *,
    enabled: bool,
) -> bytes:
    """The JSON object of a rule with some other outputs, for an engine that has it.

    Args:
        rule: it, of which the outputs are not used.
        layout: runs of outputs that it has already, and the place of each new one.
        new: the resolved outputs of each new one.
        specs: the `output_spec` of each output.
        enabled: whether it is enabled.
    """
    pieces, at = list[bytes](), 0
    for part in layout:
        count = len(part if isinstance(part, range) else new[part])
        if isinstance(part, range):
            pieces.append(b"[%d,%d]" % (part.start, count))
        else:
            pieces += specs[at : at + count]
        at += count
    is_enabled = _boolean(enabled).encode()
    members = (_encode(rule.id), is_enabled, b",".join(pieces), _class_member(rule))
    return b'{"id":%s,"enabled":%s,"outputs":[%s]%s}' % members


def rule_specs(rules: Iterable[tuple[ResolvedRule, bool]]) -> bytes:
    """The JSON array of rules, each with whether it is enabled."""
    specs = (
        rule_spec(rule.id, spec_members(rule, map(output_spec, rule.outputs)), enabled=enabled)
        for rule, enabled in rules
    )
    return b"[%s]" % b",".join(specs)


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _encode(value: object) -> bytes:
    return _ENCODER.encode(value).encode()


def _class_member(rule: ResolvedRule) -> bytes:
    return b"" if rule.traffic_class is None else b',"class":%s' % _encode(rule.traffic_class)


def _merge(rule: ResolvedRule) -> bytes:
    """How the inputs are merged."""
    mode: Any = rule.merge
    if rule.merge == "failover":
        mode = {"failover": {"after_ms": after_ms_in_use(rule.after)}}
    elif rule.merge is not None and rule.merge.startswith("seq:"):
        place = _sequence(rule.merge.removeprefix("seq:"))
        place.pop("format")
        mode = {"seq": place}
    by = {"mode": mode, "late": rule.late != "drop" and rule.reorder is None}
    if rule.reorder is not None:
        by["hold_us"] = 1000 * milliseconds(rule.reorder)
    return b'{"by":%s,"others":[%s]}' % (_encode(by), b",".join(map(input_spec, rule.others)))


def _sequence(seq: str) -> dict[str, Any]:
    """How datagrams are numbered, from its canonical text."""
    if seq in {"none", "ts", "mold", "mcr"}:
        return {"format": seq}
    if seq.startswith("rtp"):
        return {"format": "rtp", "clock_hz": int(seq.partition("/")[2] or 0)}
    offset, _, width = seq.partition(":")
    return {
        "format": "field",
        "offset": int(offset),
        "bits": int(width.removesuffix("le")),
        "little_endian": width.endswith("le"),
    }


def _unusual(output: ResolvedOutput) -> dict[str, Any]:
    """The members that do not have their usual values, which the core knows."""
    members: dict[str, Any] = {}
    if output.address_bits:
        members["address_bits"] = output.address_bits
    if output.dscp:
        members["dscp"] = output.dscp
    if output.source is not None:
        members["source"] = str(output.source)
    if output.source_port is not None:
        members["source_port"] = output.source_port
    if not output.loop:
        members["loop"] = False
    if output.priority is not None:
        members["priority"] = output.priority
    if output.rate is not None:
        members["rate"] = rate_members(output.rate, output.burst, output.queue, output.pace)
    return members
