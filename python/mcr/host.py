"""One rule on this host: do its interfaces and addresses exist, and can they do what it asks?

Owns the way from a `Rule` to the `ResolvedRule` that the native core opens sockets for. Sees no
rule beside the one in hand; what rules do to each other is the business of `config`.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal, Protocol, TypeVar

from .errors import Problem, RuleError
from .fields import BROADCAST, Address, Checks
from .names import Names, name_of
from .rules import Input, Output, Rule, default_ttl

Ingress = Literal["packet", "udp"]
End = TypeVar("End")

_LIST_LIMIT = 12  # names or addresses in one message: beyond it nobody reads
_LINK_LOCAL_CONTROL = IPv4Network("224.0.0.0/24")  # RFC 5771, 4
_SSM_V4 = IPv4Network("232.0.0.0/8")  # RFC 4607, 1
_SSM_V6 = IPv6Network("ff30::/12")  # RFC 4607, 1: ff3x::/32, so with 16 bits of zero after it
_PTP = frozenset(  # IEEE 1588: the primary domains, and peer delay
    IPv4Address(group)
    for group in ("224.0.1.129", "224.0.1.130", "224.0.1.131", "224.0.1.132", "224.0.0.107")
)


class Interface(Protocol):
    """What is asked of an interface; `mcr._native.interfaces()` gives such objects."""

    @property
    def name(self) -> str:
        """The kernel's name for it."""

    @property
    def index(self) -> int:
        """The kernel's number for it."""

    @property
    def up(self) -> bool:
        """Whether it is switched on (IFF_UP)."""

    @property
    def multicast(self) -> bool:
        """Whether it can do multicast (IFF_MULTICAST)."""

    @property
    def loopback(self) -> bool:
        """Whether it is the loopback; joining works there without the multicast flag."""

    @property
    def addresses(self) -> Sequence[Address]:
        """Its addresses of both families, without zones."""

    @property
    def broadcasts(self) -> Sequence[IPv4Address]:
        """What means every host of one of its IPv4 networks."""


@dataclass(frozen=True, slots=True)
class ResolvedInput:
    """An input as the native core takes it."""

    group: Address
    port: int
    interface: str
    ifindex: int
    sources: tuple[Address, ...]
    vlan: int
    """0 takes untagged frames."""
    broadcast: bool = False
    """Whether `group` is a broadcast address."""


@dataclass(frozen=True, slots=True)
class ResolvedOutput:
    """An output as the native core takes it."""

    address: Address
    port: int
    interface: str
    """Empty leaves the choice to the routing table."""
    ifindex: int
    """0 leaves the choice to the routing table."""
    ttl: int
    dscp: int
    source: Address | None
    source_port: int | None
    loop: bool
    priority: int | None
    broadcast: bool = False
    """Whether `address` is a broadcast address of its interface."""
    number: int = 1
    """Of the rule's output that it came of, from 1: a host name may become several."""


@dataclass(frozen=True, slots=True)
class ResolvedRule:
    """A rule as the native core takes it."""

    input: ResolvedInput
    outputs: tuple[ResolvedOutput, ...]


class Host:
    """The interfaces of this host at one moment, and the host names looked up meanwhile."""

    def __init__(
        self, interfaces: Iterable[Interface], ingress: Ingress, names: Names | None = None
    ) -> None:
        """Indexes the interfaces; asks the system nothing yet."""
        self.ingress = ingress
        self._names = Names() if names is None else names
        self.interfaces = {interface.name: interface for interface in interfaces}
        self._owners: dict[Address, list[Interface]] = {}
        for interface in self.interfaces.values():
            for address in interface.addresses:
                self._owners.setdefault(address, []).append(interface)
        self._broadcasts: dict[Address, list[Interface]] = {}
        for interface in self.interfaces.values():
            for broadcast in interface.broadcasts:
                self._broadcasts.setdefault(broadcast, []).append(interface)
        self._loopbacks = [each for each in self.interfaces.values() if each.loopback]

    def resolve(self, rule: Rule, check: Checks) -> tuple[ResolvedRule | None, list[Problem]]:
        """The rule for the native core, and warnings; None if `check` got a problem."""
        before = len(check.problems)
        taken = self._input(rule.input, check)
        outputs = [
            replace(resolved, number=number)
            for number, output in enumerate(rule.outputs, 1)
            for resolved in self._outputs(output, check, f"output {number}")
        ]
        if taken is None or len(check.problems) > before:
            return None, []
        resolved = ResolvedRule(taken, tuple(outputs))
        return resolved, list(_warnings(resolved))

    def resolve_input(self, taken: Input) -> ResolvedInput:
        """A lone input, as a receiver takes it.

        Raises:
            RuleError: with everything that is wrong, under the fields of `Input`.
        """
        check = Checks()
        return _alone(self._input(taken, check), check, "input, ")

    def resolve_output(self, output: Output) -> ResolvedOutput:
        """A lone output, as a sender takes it; of a host name's addresses the first.

        Raises:
            RuleError: with everything that is wrong, under the fields of `Output`.
        """
        check = Checks()
        outputs = self._outputs(output, check, "output")
        return _alone(outputs[0] if outputs else None, check, "output, ")

    def owners(self, address: Address) -> list[Interface]:
        """The interfaces that have this address; all of 127.0.0.0/8 is the loopback's."""
        owners = self._owners.get(address, [])
        return owners if owners or not address.is_loopback else self._loopbacks

    def senders(self, output: ResolvedOutput) -> list[Address]:
        """The addresses that copies of this output may carry as their source."""
        if output.source is not None:
            return [output.source]
        addresses: Iterable[Address] = self._owners
        if output.interface:
            interface = self.interfaces.get(output.interface)
            addresses = interface.addresses if interface else ()
        return [each for each in addresses if each.version == output.address.version]

    def _input(self, taken: Input, check: Checks) -> ResolvedInput | None:
        if taken.vlan is not None and self.ingress == "udp":
            check.note(
                "input, vlan",
                "the ingress 'udp' cannot see VLAN tags; use the ingress 'packet', or name the"
                " VLAN's own interface as the input",
            )
        if taken.group.is_multicast or taken.group == BROADCAST:
            interface = self._named(taken.interface, taken.group, check, "input, interface")
        else:
            interface = self._local_input(taken, check)
        if interface is None:
            return None
        return ResolvedInput(
            group=taken.group,
            port=taken.port,
            interface=interface.name,
            ifindex=interface.index,
            sources=taken.sources,
            vlan=taken.vlan or 0,
            broadcast=self._is_broadcast(taken.group),
        )

    def _local_input(self, taken: Input, check: Checks) -> Interface | None:
        """The interface of an input that is no group: the one named, or the address's own."""
        owners = self.owners(taken.group) or self._broadcasts.get(taken.group, [])
        if not owners:
            check.note(
                "input, group",
                f"{taken.group} is neither multicast nor an address of this host; this host has"
                f" {_listed(self._owners)}",
            )
        if taken.interface is not None:
            return self._named(taken.interface, taken.group, check, "input, interface")
        if len(owners) > 1:
            names = _listed(owner.name for owner in owners)
            check.note("input, interface", f"several interfaces have {taken.group}; name {names}")
            return None
        return self._named(owners[0].name, taken.group, check, "input, group") if owners else None

    def _outputs(self, output: Output, check: Checks, path: str) -> list[ResolvedOutput]:
        """One for each address; none, with the problem noted, if a host name has none."""
        if not isinstance(output.address, str):
            return [self._output(output, output.address, check, path)]
        name = name_of(output)
        addresses = check.optional(f"{path}, address", self._names.addresses, name) or ()
        return [self._output(output, address, check, path) for address in addresses]

    def _output(self, output: Output, address: Address, check: Checks, path: str) -> ResolvedOutput:
        interface = self._output_interface(output, address, check, path)
        if output.source is not None and not self.owners(output.source):
            check.note(
                f"{path}, source",
                f"{output.source} is not an address of this host, which has"
                f" {_listed(self._owners)}",
            )
        return ResolvedOutput(
            address=address,
            port=output.port,
            interface=interface.name if interface else "",
            ifindex=interface.index if interface else 0,
            ttl=output.ttl if output.ttl is not None else default_ttl(address),
            dscp=output.dscp,
            source=output.source,
            source_port=output.source_port,
            loop=output.loop,
            priority=output.priority,
            broadcast=self._is_broadcast(address),
        )

    def _output_interface(
        self, output: Output, address: Address, check: Checks, path: str
    ) -> Interface | None:
        """The interface named; None also where the routing table shall choose."""
        name = output.interface
        if name is None and not _is_of_a_link(address):
            networks = self._broadcasts.get(address, [])
            if not networks:
                return None
            name = networks[0].name if len(networks) == 1 else None
        field = f"{path}, interface"
        interface = self._named(name, address, check, field)
        if interface is None or output.source is not None:
            return interface
        if all(own.version != address.version for own in interface.addresses):
            family = f"IPv{address.version}"
            check.note(
                field,
                f"{interface.name} has no {family} address, so the kernel would send from a wrong"
                f" one; add one, or choose one of this host's with source=",
            )
        return interface

    def _named(
        self, name: str | None, address: Address, check: Checks, field: str
    ) -> Interface | None:
        """The interface of this name, if it is up and, for a group, can do multicast."""
        if name is None:
            noun = "multicast" if address.is_multicast else "a link-local address"
            noun = "a broadcast address" if self._is_broadcast(address) else noun
            check.note(field, f"{noun} needs one; write {address}%INTERFACE with {self._usable()}")
            return None
        interface = self.interfaces.get(name)
        if interface is None:
            close = difflib.get_close_matches(name, self.interfaces, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            known = _listed(self.interfaces)
            check.note(field, f"there is no interface {name!r}; {hint}this host has {known}")
        elif not interface.up:
            check.note(field, f"{name} is down; 'ip link set {name} up' brings it up")
        elif address.is_multicast and not _can_multicast(interface):
            check.note(
                field,
                f"{name} does no multicast; 'ip link set {name} multicast on' switches it on",
            )
        return interface

    def _is_broadcast(self, address: Address) -> bool:
        return address == BROADCAST or address in self._broadcasts

    def _usable(self) -> str:
        """The interfaces that could be named for a group, as a list for the user."""
        return _listed(
            (each.name for each in self.interfaces.values() if each.up and _can_multicast(each)),
            "an interface that is up and does multicast (there is none now)",
            last=" or ",
        )


def _alone(resolved: End | None, check: Checks, path: str) -> End:
    """What was resolved outside a rule; its problems lose the path that led to it."""
    if resolved is None or check.problems:
        problems = [(field.removeprefix(path), message) for field, message in check.problems]
        raise RuleError(problems)
    return resolved


def _is_of_a_link(address: Address) -> bool:
    """Whether the address says nothing about where to send, without an interface."""
    if isinstance(address, IPv6Address) and address.is_link_local:
        return True
    return address.is_multicast or address == BROADCAST


def _can_multicast(interface: Interface) -> bool:
    return interface.multicast or interface.loopback


def _listed(items: Iterable[object], empty: str = "none", *, last: str = ", ") -> str:
    """The items for a sentence, cut where nobody reads on."""
    texts = [str(item) for item in items]
    if len(texts) > _LIST_LIMIT:
        return ", ".join(texts[:_LIST_LIMIT]) + f" and {len(texts) - _LIST_LIMIT} more"
    if not texts:
        return empty
    return last.join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def _warnings(rule: ResolvedRule) -> Iterable[Problem]:
    """What is allowed, but seldom meant."""
    taken = rule.input
    if not taken.sources and _is_source_specific(taken.group):
        yield Problem(
            "input, group",
            f"{taken.group} is source-specific (RFC 4607), but no source is given; routers"
            f" forward it only for a join with one: write SOURCE@{taken.group}",
        )
    yield from _special_group("input, group", taken.group)
    for output in rule.outputs:
        yield from _special_group(f"output {output.number}, address", output.address)


def _special_group(field: str, address: Address) -> Iterable[Problem]:
    if address in _PTP:
        yield Problem(
            field,
            f"{address} is PTP (IEEE 1588), whose time stamps do not survive a relay",
        )
    elif address in _LINK_LOCAL_CONTROL:
        yield Problem(
            field,
            f"{address} is link-local control traffic (224.0.0.0/24), which belongs to one link;"
            " switches flood it",
        )


def _is_source_specific(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return address in _SSM_V4
    return address in _SSM_V6 and address.packed[2:4] == bytes(2)
