"""Resolution of a single rule: from a `Rule` to a `ResolvedRule` with interfaces of this host.

The native core opens sockets for a `ResolvedRule`. Effects of rules on each other are checked in
`proposal`.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from ..errors import FieldPath, Problem, RuleError
from . import fields, lint, loopback
from .fields import BROADCAST, Address, Invalid, Network, ProblemCollector
from .grammar import format_ports
from .hostnames import HostResolver, host_name_of
from .layout import Layout, all_new, arranged
from .local_host import LocalHost, can_multicast, listed, missing_interface
from .model import Input, Rule
from .output import Output
from .replacement import Replacement
from .spec import UNRESOLVED, ResolvedInput, ResolvedOutput, ResolvedRule

End = TypeVar("End")

SOCKET_LIMIT = 1024
"""The most sockets that a rule has for its groups and ports."""


class RuleResolver:
    """Resolves rules on a host, including host names."""

    def __init__(
        self, host: LocalHost, names: HostResolver | None = None, *, follows: bool = False
    ) -> None:
        """Makes no system call yet.

        Args:
            host: its interfaces and addresses.
            names: resolved host names; without them each name is resolved to its first address.
            follows: whether rules wait for missing interfaces, addresses and host names, with a
                warning; otherwise these are problems.
        """
        self._host = host
        self._follows = follows
        self._awaited: list[Problem] = []
        self._resolves_names = names is None
        self._names = HostResolver() if names is None else names

    def resolve(
        self, rule: Rule, check: ProblemCollector, replacement: Replacement | None = None
    ) -> tuple[ResolvedRule | None, list[Problem]]:
        """The rule for the native core and its warnings; None if `check` got a problem.

        Args:
            rule: the rule.
            check: gets the problems.
            replacement: what it has of a rule whose outputs were resolved without a warning.
        """
        before = len(check.problems)
        self._awaited.clear()
        rule_input = self._input(rule.input, check)
        others = [self._input(each, check) for each in rule.others]
        layout = all_new(rule) if replacement is None else replacement.layout
        new = {
            place: self._outputs(rule.outputs[place], rule.input, check, ("output", place + 1))
            for place in layout
            if isinstance(place, int)
        }
        if rule_input is None or len(check.problems) > before:
            return None, []
        legs = tuple(each for each in others if each is not None)
        warnings = list(self._awaited)
        if self._host.ingress == "udp":
            for each in (rule_input, *legs):
                warnings += loopback.turn_loop_off(new, each, rule.outputs, self._host.loopbacks)
        known = () if replacement is None else replacement.known
        rule_of_host = ResolvedRule(
            rule_input,
            arranged(layout, known, new),
            rule.id,
            _numbers(layout, new),
            others=legs,
            merge=rule.merge,
            late=rule.late,
            after=rule.after,
            reorder=rule.reorder,
            traffic_class=rule.traffic_class,
        )
        port_limit = SOCKET_LIMIT if self._host.ingress == "packet" else None
        for each in (rule_input, *legs):
            warnings += lint.input_warnings(each, held_ports=port_limit)
        return rule_of_host, [*warnings, *lint.output_warnings(new)]

    def resolve_input(self, rule_input: Input) -> ResolvedInput:
        """A single input, for a receiver.

        Raises:
            RuleError: with all problems, under the fields of `Input`.
        """
        check = ProblemCollector()
        _check_single("input", "group", rule_input.group, rule_input.port, check)
        return _alone(self._input(rule_input, check), check)

    def resolve_output(self, output: Output) -> ResolvedOutput:
        """A single output, for a sender, with the first address of a host name.

        Raises:
            RuleError: with all problems, under the fields of `Output`.
        """
        check = ProblemCollector()
        _check_single("output", "address", output.address, output.port, check)
        outputs = self._outputs(output, None, check, ("output",))
        return _alone(outputs[0] if outputs else None, check)

    def _input(self, rule_input: Input, check: ProblemCollector) -> ResolvedInput | None:
        if rule_input.vlan is not None and self._host.ingress == "udp":
            check.add(
                ("input", "vlan"),
                "the ingress 'udp' cannot see VLAN tags; use the ingress 'packet', or a VLAN"
                " interface as the input",
            )
        if self._host.ingress == "udp":
            _check_sockets(rule_input, check)
        group = rule_input.group
        if isinstance(group, Network) or group.is_multicast or group == BROADCAST:
            name = self._named(rule_input.interface, group, check, ("input", "interface"))
        else:
            name = self._local_input(rule_input, group, check)
        if name is None:
            return None
        port, last_port = _first_and_last(rule_input.port)
        return ResolvedInput(
            group=fields.first_of(group),
            group_bits=fields.block_bits(group),
            port=port,
            last_port=last_port,
            interface=name,
            ifindex=self._host.index(name),
            sources=rule_input.sources,
            vlan=rule_input.vlan or 0,
            join=rule_input.effective_join,
            broadcast=self._host.is_broadcast(group),
            device=self._host.device(name),
            seq=rule_input.seq,
            everywhere=rule_input.interface is None
            and rule_input.vlan is None
            and self._is_roaming(group),
            is_known=group.is_multicast or group == BROADCAST or self._host.is_known(group),
        )

    def _is_roaming(self, group: Address | Network) -> bool:
        """Whether datagrams to this address of the host may arrive on any interface."""
        if isinstance(group, Network) or group.is_loopback or _is_of_a_link(group):
            return False
        return bool(self._host.owners(group))

    def _local_input(
        self, rule_input: Input, group: Address, check: ProblemCollector
    ) -> str | None:
        """The interface of an input that is not a group: the one named, or that of the address.

        Empty while no interface has the address.
        """
        owners = self._host.owners(group) or self._host.broadcasters(group)
        if not owners and rule_input.interface in (None, *self._host.names):
            self._await(
                check,
                ("input", "group"),
                f"{group} is neither multicast nor an address of this host, which has"
                f" {listed(self._host.addresses)}",
            )
        if rule_input.interface is not None:
            return self._named(rule_input.interface, group, check, ("input", "interface"))
        if not owners and self._follows:
            return ""
        if len(owners) > 1:
            names = listed(owner.name for owner in owners)
            check.add(
                ("input", "interface"), f"several interfaces have {group}; name one of {names}"
            )
            return None
        return self._named(owners[0].name, group, check, ("input", "group")) if owners else None

    def _outputs(
        self, output: Output, rule_input: Input | None, check: ProblemCollector, path: FieldPath
    ) -> list[ResolvedOutput]:
        """One for each address; for an unresolved host name, one that waits."""
        name = host_name_of(output, rule_input)
        if name is None:
            assert not isinstance(output.address, str)  # else it had a name
            return [self._output(output, output.address, check, path)]
        addresses: Sequence[Address]
        try:
            addresses = (
                self._names.resolve(name) if self._resolves_names else self._names
            ).addresses(name)
        except Invalid as error:
            self._await(check, (*path, "address"), str(error))
            addresses = [UNRESOLVED[name.version or 4]]
        return [self._output(output, address, check, path) for address in addresses]

    def _output(
        self, output: Output, address: Address | Network, check: ProblemCollector, path: FieldPath
    ) -> ResolvedOutput:
        port, last_port = _first_and_last(output.port)
        name = self._output_interface(output, address, check, path) or ""
        if isinstance(output.source, Address) and not self._host.owners(output.source):
            self._await(
                check,
                (*path, "source"),
                f"{output.source} is not an address of this host, which has"
                f" {listed(self._host.addresses)}",
            )
        if (
            output.dscp == "keep"
            and output.priority is not None
            and isinstance(address, IPv4Address)
        ):
            check.add(
                (*path, "priority"),
                "cannot be combined with dscp=keep in IPv4, where the kernel derives it from the"
                " DSCP of each copy; omit one",
            )
        return ResolvedOutput(
            address=fields.first_of(address),
            address_bits=fields.block_bits(address),
            port=port,
            last_port=last_port,
            interface=name,
            ifindex=self._host.index(name),
            ttl=output.ttl if output.ttl is not None else fields.default_ttl(address),
            dscp=output.dscp,
            source=output.source,
            source_port=output.source_port,
            loop=output.loop is not False,
            priority=output.priority,
            rate=output.rate,
            burst=output.burst,
            queue=output.queue,
            pace=output.pace,
            broadcast=self._host.is_broadcast(address),
            device=self._host.device(name),
        )

    def _output_interface(
        self, output: Output, address: Address | Network, check: ProblemCollector, path: FieldPath
    ) -> str | None:
        """The interface named; None if there is a problem or routing chooses."""
        name = output.interface
        if name is None and not _is_of_a_link(address):
            networks = self._host.broadcasters(address) if isinstance(address, Address) else []
            if not networks:
                return None
            name = networks[0].name if len(networks) == 1 else None
        where = (*path, "interface")
        name = self._named(name, address, check, where)
        interface = self._host.interface(name or "")
        if interface is None or output.source is not None:
            return name
        is_reached = self._host.has_version(interface.name, address.version)
        if not is_reached and address not in UNRESOLVED.values():
            family = f"IPv{address.version}"
            self._await(
                check,
                where,
                f"{interface.name} has no {family} address, so the kernel would use that of another"
                f" interface; add an address, or choose one of this host with source=",
            )
        return name

    def _named(
        self,
        name: str | None,
        address: Address | Network,
        check: ProblemCollector,
        where: FieldPath,
    ) -> str | None:
        """The name, if one is given; notes problems of the interface."""
        if name is None:
            noun = "multicast" if address.is_multicast else "a link-local address"
            noun = "a broadcast address" if self._host.is_broadcast(address) else noun
            check.add(where, f"{noun} needs one; write {address}%INTERFACE with {self._usable()}")
            return None
        interface = self._host.interface(name)
        if interface is None:
            self._await(check, where, missing_interface(name, self._host.names))
        elif not interface.up:
            self._await(check, where, f"{name} is down; run 'ip link set {name} up'")
        elif address.is_multicast and not can_multicast(interface):
            check.add(
                where,
                f"{name} has multicast disabled; run 'ip link set {name} multicast on'",
            )
        return name

    def _await(self, check: ProblemCollector, where: FieldPath, message: str) -> None:
        """Notes something missing: as a warning if rules wait for it, otherwise as a problem."""
        if self._follows:
            self._awaited.append(Problem(where, f"{message}; the rule waits for it"))
        else:
            check.add(where, message)

    def _usable(self) -> str:
        """The interfaces that a group may name, as text."""
        return listed(
            self._host.multicast_names(),
            "an interface that is up and has multicast enabled (there is none now)",
            last=" or ",
        )


def _numbers(layout: Layout, new: Mapping[int, Sequence[object]]) -> tuple[int, ...] | None:
    """The number of each resolved output; None if each output has one, in order."""
    if all(len(outputs) == 1 for outputs in new.values()):
        return None
    numbers: list[int] = []
    place = 0
    for part in layout:
        count = len(part) if isinstance(part, range) else 1
        numbers += (
            range(place + 1, place + count + 1)
            if isinstance(part, range)
            else ([part + 1] * len(new[part]))
        )
        place += count
    return tuple(numbers)


def _alone(resolved: End | None, check: ProblemCollector) -> End:
    """An endpoint resolved outside a rule: its problems are under its own fields."""
    if resolved is None or check.problems:
        raise RuleError((problem.path[1:], problem.message) for problem in check.problems)
    return resolved


def _first_and_last(port: int | range) -> tuple[int, int]:
    return (port[0], port[-1]) if isinstance(port, range) else (port, port)


def _check_single(
    noun: str,
    field: str,
    address: Address | Network | str,
    port: int | range,
    check: ProblemCollector,
) -> None:
    """Notes several addresses or ports, which only a rule can have."""
    if isinstance(address, Network):
        check.add(
            (noun, field), f"{address} is a block, which only rules accept; write one address"
        )
    if isinstance(port, range):
        check.add(
            (noun, "port"), f"{format_ports(port)} is a range, which only rules accept; write one"
        )


def _check_sockets(rule_input: Input, check: ProblemCollector) -> None:
    """Notes limits of the ingress 'udp', which joins with a socket for each group and port."""
    if rule_input.join == "none":
        check.add(
            ("input", "join"),
            "the ingress 'udp' receives joined groups only; use the ingress 'packet', or omit"
            " join=none",
        )
    sockets = 2 ** fields.block_bits(rule_input.group) * fields.port_count(rule_input.port)
    if sockets > SOCKET_LIMIT:
        check.add(
            "input",
            f"{rule_input.group} and port {format_ports(rule_input.port)} need {sockets} sockets on"
            f" the ingress 'udp', but a rule has at most {SOCKET_LIMIT}; use the ingress 'packet'",
        )


def _is_of_a_link(address: Address | Network) -> bool:
    """Whether the address has a meaning only together with an interface."""
    if isinstance(address, IPv6Address) and address.is_link_local:
        return True
    return address.is_multicast or address == BROADCAST
