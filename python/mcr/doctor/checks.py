"""Checks: pure functions from `Facts` and rules to findings.

They read nothing and change nothing, so that tests can check any host.
"""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address

from ..rules import Input, Output, Rule
from ..rules.fields import Address, block_bits, first_of, port_count
from ..rules.grammar import format_ports
from ..rules.local_host import missing_interface
from ..rules.resolver import SOCKET_LIMIT
from .facts import RECEIVE_BUFFER_BYTES, SEND_BUFFER_BYTES, SOURCE_LIMITS, Device, Facts
from .finding import Finding, Severity
from .gro import check_merging, check_port
from .snooping import check_snooping, joined_groups

_JOINS_IN_A_SOCKET = 20  # the kernel's default, if the sysctl cannot be read
_SPARE_DESCRIPTORS = 64  # standard streams, libraries, a reader of the statistics
_HEADER_BYTES = {4: 28, 6: 48}  # IP and UDP
_AS_ROOT = 'sudo "$(command -v mcr)" relay ...'


def check_host(facts: Facts, rules: Sequence[Rule]) -> Iterator[Finding]:
    """Findings about the host, independent of interfaces."""
    yield _ingress(facts)
    yield _io_uring(facts)
    yield _options(facts)
    yield _buffer(facts.receive_buffer_bytes, RECEIVE_BUFFER_BYTES, "receive", "rmem_max")
    yield _buffer(facts.send_buffer_bytes, SEND_BUFFER_BYTES, "send", "wmem_max")
    yield _descriptors(facts, rules)
    yield from _limits(facts, rules)
    for text, fix in dict.fromkeys(_lacking_rights(facts, rules)):
        yield Finding("rights", "problem", text, fix=fix)


def check_interface(facts: Facts, name: str, rules: Sequence[Rule]) -> Iterator[Finding]:
    """Findings about one interface, for the rules that name it; without rules, as an input."""
    device = facts.devices.get(name)
    if device is None:
        known = (each for other in facts.devices.values() for each in other.names)
        yield Finding("link", "problem", missing_interface(name, known), name)
        return
    inputs = [rule for rule in rules if input_interface(facts, rule) == name]
    yield from _link(device, rules)
    wants_v6 = any(isinstance(address, IPv6Address) for address in _addresses(name, rules))
    if wants_v6 and device.ipv6_disabled:
        fix = f"sysctl -w net.ipv6.conf.{_dotted(name)}.disable_ipv6=0"
        yield Finding("ipv6", "problem", f"IPv6 is disabled on {name}", name, fix)
    if inputs or not rules:
        yield from check_merging(facts, device)
    if inputs:
        yield from check_port(facts, device)
        yield from check_snooping(facts, device, inputs)
    yield from _own_address(device, inputs)
    yield from _reverse_path(facts, device, inputs)
    joined = (first_of(rule.input.group) for rule in inputs if joined_groups(rule.input))
    for group in dict.fromkeys(joined):
        yield _membership(facts, device, group)


def check_mtu(facts: Facts, rule: Rule) -> Iterator[Finding]:
    """Findings about outputs with a smaller MTU than their input."""
    source = facts.devices.get(input_interface(facts, rule))
    if source is None or source.loopback:
        return
    narrow = {
        device: _HEADER_BYTES[rule.input.group.version]
        for output in rule.outputs
        if (device := facts.devices.get(output_interface(facts, output)))
        and device.mtu < source.mtu
    }
    for device, headers in narrow.items():
        yield Finding(
            "mtu",
            "advice",
            f"datagrams of more than {device.mtu - headers} bytes from {source.name} (MTU"
            f" {source.mtu}) leave {device.name} (MTU {device.mtu}) in fragments",
            device.name,
            f"ip link set {device.name} mtu {source.mtu}",
        )


def check_route(facts: Facts, output: Output) -> Iterator[Finding]:
    """A finding if this host has no route to an output that names no interface."""
    address = output.address
    if output.interface is not None or not isinstance(address, Address) or address.is_multicast:
        return
    if facts.ways.get(address, "") is None:
        fix = f"ip route add {address} via GATEWAY"
        yield Finding("route", "problem", f"there is no route to {address}", fix=fix)


def input_interface(facts: Facts, rule: Rule) -> str:
    """The interface of an input: the one named, else that of its address; empty for none."""
    rule_input = rule.input
    if rule_input.interface is not None:
        return rule_input.interface
    owners = (
        device.name
        for device in facts.devices.values()
        if rule_input.group in device.addresses or rule_input.group in device.broadcasts
    )
    return next(owners, "")


def output_interface(facts: Facts, output: Output) -> str:
    """The interface of an output: the one named, else that of the route; empty for none."""
    if output.interface is not None or not isinstance(output.address, Address):
        return output.interface or ""
    return facts.ways.get(output.address) or ""


def _ingress(facts: Facts) -> Finding:
    if facts.packet_sockets:
        text = "CAP_NET_RAW is available: the ingress is 'packet' by default"
        return Finding("ingress", "ok", text)
    return Finding(
        "ingress",
        "advice",
        "CAP_NET_RAW is missing: the ingress is 'udp', which sees no VLAN tags and receives what"
        " the host's firewall lets through",
        fix=_AS_ROOT,
    )


def _lacking_rights(facts: Facts, rules: Sequence[Rule]) -> Iterator[tuple[str, str]]:
    """The rights that a relay needs and lacks, each with its fix."""
    for output in (output for rule in rules for output in rule.outputs):
        place = f"{output.address}%{output.interface}" if output.interface else f"{output.address}"
        place = f"{place}:{format_ports(output.port)}"
        if output.source == "keep" and not facts.foreign_sources:
            name = "CAP_NET_ADMIN or CAP_NET_RAW"
            yield f"{name} is missing: source=keep on {place} needs one of them", _AS_ROOT
        if output.source_port == "keep" and not facts.packet_sockets:
            yield f"CAP_NET_RAW is missing: sport=keep on {place} needs it", _AS_ROOT
    bound = [output.source_port for rule in rules for output in rule.outputs]
    if not facts.packet_sockets:  # else mcr receives the port without binding it
        ports = (rule.input.port for rule in rules)
        bound += [port[0] if isinstance(port, range) else port for port in ports]
    for port in bound:
        if isinstance(port, int) and port < facts.lowest_port:
            fix = f"sysctl -w net.ipv4.ip_unprivileged_port_start={port}"
            yield f"CAP_NET_BIND_SERVICE is missing: port {port} needs it", fix


def _io_uring(facts: Facts) -> Finding:
    if facts.io_uring is None:
        return Finding("io_uring", "ok", "io_uring works")
    disabled = facts.sysctls.get("kernel.io_uring_disabled", 0) > 0
    fix = "sysctl -w kernel.io_uring_disabled=0" if disabled else None
    text = f"{facts.io_uring}; without it mcr relays, but with more processor time"
    return Finding("io_uring", "advice", text, fix=fix)


def _options(facts: Facts) -> Finding:
    if not facts.missing_options:
        return Finding("kernel", "ok", "the kernel receives and sends many datagrams at once")
    names = ", ".join(facts.missing_options)
    return Finding("kernel", "advice", f"this kernel has no {names}: everything works, but slower")


def _buffer(granted: int, wanted: int, which: str, limit: str) -> Finding:
    name = f"{which}-buffer"
    if granted >= wanted:
        return Finding(name, "ok", f"{which} buffers of {wanted >> 20} MiB are granted")
    return Finding(
        name,
        "advice",
        f"{which} buffers are {granted >> 10} KiB instead of {wanted >> 10} without CAP_NET_ADMIN,"
        " so that bursts may be lost",
        fix=f"sysctl -w net.core.{limit}={wanted}",
    )


def _descriptors(facts: Facts, rules: Sequence[Rule]) -> Finding:
    outputs = sum(len(rule.outputs) for rule in rules)
    inputs = [rule.input for rule in rules]
    sockets = {(each.interface, each.group, each.port): _sockets(facts, each) for each in inputs}
    needed = outputs + sum(sockets.values()) + _SPARE_DESCRIPTORS
    limit = facts.descriptors
    if needed <= limit:
        text = f"about {needed} descriptors are needed; the hard limit is {limit}"
        return Finding("descriptors", "ok", text)
    text = f"about {needed} descriptors are needed, but the hard limit is {limit}"
    return Finding("descriptors", "problem", text, fix=f"ulimit -Hn {needed}")


def _sockets(facts: Facts, rule_input: Input) -> int:
    """The most sockets that an input opens for its groups and ports, including those that join."""
    groups, ports = 1 << block_bits(rule_input.group), port_count(rule_input.port)
    if not facts.packet_sockets:
        return groups * ports
    joining = -(-joined_groups(rule_input) // _memberships_in_a_socket(facts))
    return min(ports, SOCKET_LIMIT) + joining


def _memberships_in_a_socket(facts: Facts) -> int:
    limit = facts.sysctls.get("net.ipv4.igmp_max_memberships", _JOINS_IN_A_SOCKET)
    return max(limit, 1)


def _limits(facts: Facts, rules: Sequence[Rule]) -> Iterator[Finding]:
    """Findings about limits on memberships that the rules reach."""
    inputs = [rule.input for rule in rules if _is_group(rule, version=4)]
    joined = {(each.interface, each.group): joined_groups(each) for each in inputs}
    groups = sum(joined.values())
    limit = _memberships_in_a_socket(facts)
    if groups > limit:
        text = f"{groups} IPv4 groups need several sockets, with at most {limit} groups each"
        yield Finding("memberships", "ok", text)
    for version, name in SOURCE_LIMITS.items():
        most = max(
            (len(rule.input.sources) for rule in rules if _is_group(rule, version)), default=0
        )
        limit = facts.sysctls.get(name, facts.tried_limits.get(name, most))
        if most <= limit:
            continue
        text = f"a rule lists {most} sources, but a socket joins at most {limit}"
        if facts.packet_sockets:
            yield Finding("sources", "ok", f"{text}: several sockets join them")
            continue
        if name not in facts.sysctls:
            text += f"; {name} does not exist in this network namespace: root has to raise it on"
            text += " the host, outside of containers"
        yield Finding("sources", "problem", text, fix=f"sysctl -w {name}={most}")


def _link(device: Device, rules: Sequence[Rule]) -> Iterator[Finding]:
    name = device.name
    if not device.up:
        yield Finding("link", "problem", f"{name} is down", name, f"ip link set {name} up")
        return
    if not device.carrier:
        yield Finding("link", "problem", f"{name} has no carrier: is the cable plugged in?", name)
        return
    groups = any(address.is_multicast for address in _addresses(name, rules))
    if groups and not (device.multicast or device.loopback):
        fix = f"ip link set {name} multicast on"
        yield Finding("link", "problem", f"{name} has multicast disabled", name, fix)
        return
    yield Finding("link", "ok", f"{name} is up, MTU {device.mtu}", name)


def _own_address(device: Device, inputs: Sequence[Rule]) -> Iterator[Finding]:
    if not _has_v4(device) and any(_is_group(rule, version=4) for rule in inputs):
        text = (
            f"{device.name} has no IPv4 address: memberships are reported from 0.0.0.0, which some"
            " switches ignore"
        )
        fix = f"ip address add ADDRESS/LENGTH dev {device.name}"
        yield Finding("address", "advice", text, device.name, fix)


def _reverse_path(facts: Facts, device: Device, inputs: Sequence[Rule]) -> Iterator[Finding]:
    """Findings about datagrams that reverse-path filtering drops before a UDP socket."""
    rules = [rule for rule in inputs if isinstance(first_of(rule.input.group), IPv4Address)]
    if not rules or device.loopback:
        return
    name = device.name
    severity: Severity = "advice" if facts.packet_sockets else "problem"
    beside = "; the ingress 'packet' receives them" if facts.packet_sockets else ""
    if device.rp_filter == 0:
        yield Finding("reverse-path", "ok", f"reverse-path filtering is off on {name}", name)
        return
    if not _has_v4(device):
        text = f"{name} has no IPv4 address, and its reverse-path filter drops every sender{beside}"
        yield Finding("reverse-path", severity, text, name, _set_rp_filter(name, 0))
        return
    sources = dict.fromkeys(source for rule in rules for source in rule.input.sources)
    for source in sources:
        way = facts.ways.get(source, "")
        if way in (name, "") or (way is not None and device.rp_filter > 1):
            continue
        led = f"reached by {way}" if way else "without a route"
        text = f"the reverse-path filter of {name} drops {source}, which is {led}{beside}"
        yield Finding("reverse-path", severity, text, name, _set_rp_filter(name, 2 if way else 0))
        return
    if device.rp_filter == 1 and not all(rule.input.sources for rule in rules):
        text = f"the reverse-path filter of {name} drops senders reached by another interface"
        yield Finding("reverse-path", "advice", text + beside, name, _set_rp_filter(name, 2))
        return
    text = f"the reverse-path filter of {name} accepts senders to which this host has a route"
    yield Finding("reverse-path", "ok", text, name)


def _set_rp_filter(name: str, value: int) -> str:
    """The command: the larger of two sysctls counts, so 2 (any route) needs one, 0 needs both."""
    own = f"net.ipv4.conf.{_dotted(name)}.rp_filter={value}"
    return f"sysctl -w {own}" if value else f"sysctl -w net.ipv4.conf.all.rp_filter=0 {own}"


def _membership(facts: Facts, device: Device, group: Address) -> Finding:
    name = device.name
    if group in device.groups:
        text = f"this host is a member of {group} on {name}"
        return Finding("membership", "ok", text, name)
    why = facts.refused_joins.get((name, group))
    if why is None:
        text = f"{group} can be joined on {name}; this host is not a member now"
        return Finding("membership", "ok", text, name)
    return Finding("membership", "problem", f"{group} cannot be joined on {name}: {why}", name)


def _has_v4(device: Device) -> bool:
    return any(isinstance(own, IPv4Address) for own in device.addresses)


def _is_group(rule: Rule, version: int) -> bool:
    return rule.input.group.is_multicast and rule.input.group.version == version


def _addresses(name: str, rules: Iterable[Rule]) -> Iterator[Address]:
    """The addresses that rules name together with an interface."""
    for rule in rules:
        if rule.input.interface == name:
            yield first_of(rule.input.group)
        for output in rule.outputs:
            if output.interface == name and not isinstance(output.address, str):
                yield first_of(output.address)


def _dotted(name: str) -> str:
    """The interface name as part of a sysctl name, in which `/` means a dot (sysctl(8))."""
    return name.replace(".", "/")
