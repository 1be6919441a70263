"""Checks whether copies can leave through AF_XDP, past the network stack, and what helps if not.

Pure functions, as in `checks`.
"""

from collections.abc import Iterable, Iterator

from ..rules import Output
from ..rules.fields import Address, Network, first_of
from .checks import output_interface
from .facts import Facts
from .finding import Finding

_IPV4 = 4
_METRIC = 1000
"""Each interface needs a metric of its own; this one, and its index."""


def check_xdp(facts: Facts, outputs: Iterable[Output]) -> Iterator[Finding]:
    """Yield a finding for each interface and IP version with outputs to groups, or to hosts."""
    if not facts.packet_sockets:
        return  # the finding about the ingress names the right that is missing
    findings: dict[tuple[str, int, bool], Finding] = {}
    for output in outputs:
        address = output.address
        device = facts.devices.get(output_interface(facts, output) or "")
        if device is None or device.loopback or not isinstance(address, Address | Network):
            continue
        if address in device.broadcasts:
            continue  # programs on this host may receive them too, so sockets send them
        is_group = address.is_multicast
        why = facts.xdp_obstacles.get((device.name, address.version))
        if why is None and is_group and output.loop is not False:
            group = first_of(address)
            if group in device.groups:
                why = f"a program on this host receives {group} on {device.name}"
        if why is None and not is_group and not isinstance(address, Address):
            why = "a block of hosts has a MAC address for each"
        key = device.name, address.version, is_group
        known = findings.get(key)
        if known is None or (known.severity == "ok" and why is not None):
            findings[key] = _finding(*key, why)
    yield from findings.values()


def check_group_routes(facts: Facts, outputs: Iterable[Output]) -> Iterator[Finding]:
    """Yield a finding for each interface whose IPv4 groups have no route, if sockets send there.

    Without a route of four bits or more the kernel makes one for every send (net/ipv4/route.c,
    `__mkroute_output`). It has one for IPv6 groups on each interface.
    """
    if facts.group_routes is None:
        return
    named = set()
    for output in outputs:
        group, device = output.address, facts.devices.get(output.interface or "")
        if device is None or device.loopback or not isinstance(group, Address | Network):
            continue
        is_sent_by_socket = (
            not facts.packet_sockets or (device.name, group.version) in facts.xdp_obstacles
        )
        if group.version != _IPV4 or not group.is_multicast or not is_sent_by_socket:
            continue
        routes = facts.group_routes.get(device.name, ())
        if device.name in named or any(first_of(group) in route for route in routes):
            continue
        named.add(device.name)
        text = (
            f"{device.name} has no route for IPv4 groups, so each send through a UDP socket makes "
            "and frees one, which costs 7 to 14 % of it; with the route, multicast of other "
            f"programs that name no interface may leave by {device.name} too"
        )
        fix = f"ip route add 224.0.0.0/4 dev {device.name} metric {_METRIC + device.index}"
        yield Finding("group-route", "advice", text, device.name, fix)


def _finding(name: str, version: int, is_group: bool, why: str | None) -> Finding:
    copies = f"copies to IPv{version} {'groups' if is_group else 'hosts'} on {name}"
    if why is None:
        return Finding("xdp", "ok", f"{copies} can leave through AF_XDP", name)
    text = f"{copies} leave through UDP sockets, which is slower for sizes that vary: {why}"
    return Finding("xdp", "advice", text, name)
