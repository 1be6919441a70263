"""Facts about this host, read or tried.

They belong to the network namespace of the calling thread. Reading changes nothing that lasts:
sockets are opened for a test, and a group without members is joined for a moment.
"""

import errno
import os
import resource
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from pathlib import Path

from .. import _native
from ..errors import McrError
from ..rules import Rule
from ..rules.fields import Address, Network, first_of
from .group_routes import read_group_routes
from .offload_facts import OffloadFacts, read_offload_facts

RECEIVE_BUFFER_BYTES = 16 * 2**20
"""The receive buffer that an input requests (rust/sockets/packet/mod.rs)."""
SEND_BUFFER_BYTES = 4 * 2**20
"""The send buffer that an output requests (rust/sockets/output/mod.rs)."""

_SYSCTLS = (
    "net.ipv4.igmp_max_memberships",
    "kernel.io_uring_disabled",
)
SOURCE_LIMITS = {4: "net.ipv4.igmp_max_msf", 6: "net.ipv6.mld_max_msf"}
"""By IP version: the limit on the sources of one group on a socket."""
_TRIED_GROUP_V4 = IPv4Address("239.255.255.254")
_TRIED_GROUP_V6 = IPv6Address("ff15::ffff:fffe")
_STRANGERS: Mapping[int, Address] = {4: IPv4Address("10.0.0.1"), 6: IPv6Address("fd00::1")}
"""By IP version: the first address of made-up senders."""
_MCAST_JOIN_SOURCE_GROUP = 46
_STORAGE_BYTES = 128
_SOL_PACKET = 263
_PACKET_VNET_HDR = 15
_UDP_SEGMENT = 103
_UDP_GRO = 104
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_IP_TRANSPARENT = 19
_RESERVED_PORTS = 1024
_IPV4 = 4
_ANY_PORT = 9  # nothing is sent: connecting a UDP socket only looks up the route


@dataclass(frozen=True, slots=True)
class Device:
    """An interface with the facts that a diagnosis needs."""

    name: str
    index: int
    altnames: tuple[str, ...] = ()
    up: bool = True
    carrier: bool = True
    multicast: bool = True
    loopback: bool = False
    mtu: int = 1500
    gro: bool = True
    gro_forwarding: bool | None = None
    """``rx-udp-gro-forwarding``; None if the device does not have it."""
    cards: tuple[str, ...] = ()
    """The interfaces of this namespace that receive for it; empty if it does so itself."""
    card_elsewhere: bool = False
    """Whether an interface of another network namespace receives for it."""
    receiving_master: str | None = None
    """The bridge or bond that receives the frames of this interface."""
    snooped_groups: int | None = None
    """The number of groups that it keeps (``mcast_hash_max``), if it is a snooping bridge."""
    asks_memberships: bool = False
    """Whether it asks for memberships itself, if it is a snooping bridge."""
    queriers: tuple[Address, ...] = ()
    """The other hosts that ask for memberships on its links, if it is a snooping bridge."""
    addresses: tuple[Address, ...] = ()
    broadcasts: tuple[IPv4Address, ...] = ()
    groups: frozenset[Address] = frozenset()
    """The groups of which the kernel is a member here, for any program."""
    rp_filter: int = 0
    """The larger of the interface's value and that of ``all``, which is in effect."""
    ipv6_disabled: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Its name and its alternative names."""
        return self.name, *self.altnames


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about the host at one moment; the defaults describe a host without problems."""

    devices: Mapping[str, Device]
    packet_sockets: bool = True
    """Whether AF_PACKET sockets may be opened (CAP_NET_RAW)."""
    foreign_sources: bool = True
    """Whether copies may have foreign source addresses (CAP_NET_ADMIN or CAP_NET_RAW)."""
    lowest_port: int = 1
    """The lowest port that this process may bind."""
    io_uring: str | None = None
    """The reason why io_uring is refused; None if it works."""
    missing_options: tuple[str, ...] = ()
    """Socket options that this kernel does not have."""
    receive_buffer_bytes: int = RECEIVE_BUFFER_BYTES
    """The buffer that an input would get."""
    send_buffer_bytes: int = SEND_BUFFER_BYTES
    """The buffer that an output would get."""
    descriptors: int = 1024 * 1024
    """The hard limit on open files of this process."""
    sysctls: Mapping[str, int] = field(default_factory=dict)
    """The readable ones, by name."""
    tried_limits: Mapping[str, int] = field(default_factory=dict)
    """Limits found by trial, by the names of sysctls that cannot be read here: the limit, or what
    the rules need if that is less."""
    ways: Mapping[Address, str | None] = field(default_factory=dict)
    """The interface by which a host is reached; None without a route, empty for this host."""
    xdp_obstacles: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """Interface and IP version of outputs whose copies cannot leave through AF_XDP: why not."""
    group_routes: Mapping[str, tuple[IPv4Network, ...]] | None = None
    """The routes of the main table for IPv4 groups only, by interface; None if unknown."""
    refused_joins: Mapping[tuple[str, Address], str] = field(default_factory=dict)
    """Groups that the kernel refused to join in a test, each with the reason."""
    offload: OffloadFacts | None = None
    """Facts about the relay in the kernel."""


def read_facts(rules: Iterable[Rule]) -> Facts:
    """Read the facts that matter for the rules."""
    rules = tuple(rules)
    memberships = set(_memberships())
    found = _native.interfaces()
    layers = _native.layers()
    devices = {each.name: _device(each, layers.get(each.name), memberships) for each in found}
    receive, send = _buffers()
    packet_sockets = _opens(socket.AF_PACKET, socket.SOCK_RAW)
    ways = {host: _way(host, devices.values()) for host in _hosts(rules)}
    names = (*_SYSCTLS, *SOURCE_LIMITS.values())
    sysctls = {name: value for name in names if (value := sysctl(name)) is not None}
    return Facts(
        devices=devices,
        packet_sockets=packet_sockets,
        foreign_sources=_sends_for_others(),
        lowest_port=_lowest_port(),
        io_uring=_io_uring(),
        missing_options=tuple(_missing_options()),
        receive_buffer_bytes=receive,
        send_buffer_bytes=send,
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        sysctls=sysctls,
        tried_limits=dict(_tried_limits(rules, sysctls)),
        ways=ways,
        xdp_obstacles=dict(_xdp_obstacles(rules, devices, ways)),
        group_routes=read_group_routes(),
        refused_joins=dict(_refused_joins(rules, devices)),
        offload=read_offload_facts(rules, _names(devices), ways, to_sockets=not packet_sockets),
    )


def sysctl(name: str, *parts: str) -> int | None:
    """Read a number from /proc/sys; None if there is none. `parts` may contain dots."""
    with suppress(OSError, ValueError):
        return int(Path("/proc/sys", *name.split("."), *parts).read_text())
    return None


def _device(
    found: _native.Interface,
    layers: _native.Layers | None,
    memberships: Iterable[tuple[str, Address]],
) -> Device:
    """`layers` is None for an interface that has just appeared."""
    filters = [sysctl("net.ipv4.conf", name, "rp_filter") or 0 for name in ("all", found.name)]
    return Device(
        name=found.name,
        index=found.index,
        altnames=tuple(found.altnames),
        up=found.up,
        carrier=found.carrier,
        multicast=found.multicast,
        loopback=found.loopback,
        mtu=found.mtu,
        gro=found.gro,
        gro_forwarding=_native.udp_gro_forwarding(found.name),
        cards=tuple(layers.cards) if layers and layers.cards != [found.name] else (),
        card_elsewhere=layers is not None and layers.elsewhere,
        receiving_master=layers.receiving_master if layers else None,
        snooped_groups=layers.snooped_groups if layers else None,
        asks_memberships=layers is not None and layers.asks_memberships,
        queriers=tuple(layers.queriers) if layers else (),
        addresses=tuple(found.addresses),
        broadcasts=tuple(found.broadcasts),
        groups=frozenset(group for name, group in memberships if name == found.name),
        rp_filter=max(filters),
        ipv6_disabled=sysctl("net.ipv6.conf", found.name, "disable_ipv6") == 1,
    )


def _memberships() -> Iterator[tuple[str, Address]]:
    """Pairs of interface and group, from /proc/net/igmp and igmp6 of this thread's namespace."""
    name = ""
    for line in _lines("igmp")[1:]:
        words = line.split()
        if not line[0].isspace():
            name = words[1]
        else:
            yield name, IPv4Address(int(words[0], 16).to_bytes(4, sys.byteorder))
    for line in _lines("igmp6"):
        words = line.split()
        yield words[1], IPv6Address(bytes.fromhex(words[2]))


def _lines(table: str) -> list[str]:
    """The lines of a table of this thread's network namespace; none without IPv6 in the kernel."""
    with suppress(OSError):
        return Path("/proc/thread-self/net", table).read_text().splitlines()
    return []


def _opens(family: int, kind: int) -> bool:
    with suppress(OSError):
        socket.socket(family, kind, 0).close()
        return True
    return False


def _tried_limits(rules: Iterable[Rule], sysctls: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Find unreadable limits by trial: only the first namespace has mld_max_msf."""
    rules = tuple(rules)
    for version, name in SOURCE_LIMITS.items():
        inputs = (rule.input for rule in rules if rule.input.group.version == version)
        wanted = max((len(each.sources) for each in inputs), default=0)
        if wanted == 0 or name in sysctls:
            continue
        with suppress(OSError):
            yield name, _try_sources(_STRANGERS[version], wanted)


def _try_sources(first: Address, wanted: int) -> int:
    """The number of sources that a socket joins on the loopback, up to `wanted`.

    Raises:
        OSError: the host has no such sockets, or refuses for another reason than a limit.
    """
    if isinstance(first, IPv4Address):
        family, level, group = socket.AF_INET, socket.IPPROTO_IP, _storage(_TRIED_GROUP_V4)
    else:
        family, level, group = socket.AF_INET6, socket.IPPROTO_IPV6, _storage(_TRIED_GROUP_V6)
    start = struct.pack("@I4x", socket.if_nametoindex("lo")) + group
    with socket.socket(family, socket.SOCK_DGRAM) as member:
        for number in range(wanted):
            try:
                member.setsockopt(level, _MCAST_JOIN_SOURCE_GROUP, start + _storage(first + number))
            except OSError as error:
                if error.errno in (errno.ENOBUFS, errno.ENOMEM):
                    return number
                raise
    return wanted


def _storage(address: Address) -> bytes:
    """A `struct sockaddr_storage` with this address."""
    if isinstance(address, IPv4Address):
        start = struct.pack("@HH4s", socket.AF_INET, 0, address.packed)
    else:
        start = struct.pack("@HHI16sI", socket.AF_INET6, 0, 0, address.packed, 0)
    return start.ljust(_STORAGE_BYTES, bytes(1))


def _sends_for_others() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried, suppress(PermissionError):
        tried.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
        return True
    return False


def _lowest_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
        try:
            tried.bind(("", 1))
        except PermissionError:
            return sysctl("net.ipv4.ip_unprivileged_port_start") or _RESERVED_PORTS
        except OSError:  # in use, so no right is missing
            return 1
    return 1


def _io_uring() -> str | None:
    try:
        _native.try_io_uring()
    except McrError as error:
        return str(error)
    return None


def _missing_options() -> Iterator[str]:
    udp = (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
    wanted = [
        ("UDP_SEGMENT", udp, _UDP_SEGMENT, 1400),
        ("UDP_GRO", udp, _UDP_GRO, 1),
        ("PACKET_VNET_HDR", (socket.AF_PACKET, socket.SOCK_RAW, _SOL_PACKET), _PACKET_VNET_HDR, 1),
    ]
    for name, (family, kind, level), option, value in wanted:
        if not _opens(family, kind):
            continue  # a right is missing, which is a finding of its own
        with socket.socket(family, kind, 0) as tried:
            try:
                tried.setsockopt(level, option, value)
            except OSError:
                yield name


def _buffers() -> tuple[int, int]:
    """The granted receive and send buffers, in the unit of the request."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
        return (
            _granted(tried, _SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES),
            _granted(tried, _SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER_BYTES),
        )


def _granted(tried: socket.socket, force: int, plain: int, wanted: int) -> int:
    try:
        tried.setsockopt(socket.SOL_SOCKET, force, wanted)
    except PermissionError:
        tried.setsockopt(socket.SOL_SOCKET, plain, wanted)
    return tried.getsockopt(socket.SOL_SOCKET, plain) // 2  # the kernel counts twice as much


def _hosts(rules: Iterable[Rule]) -> Iterator[Address]:
    """The hosts whose routes matter: senders in source lists, and outputs by route."""
    for rule in rules:
        yield from rule.input.sources
        for output in rule.outputs:
            address = output.address
            if isinstance(address, Address) and not address.is_multicast:
                yield address


def _way(host: Address, devices: Iterable[Device]) -> str | None:
    """The interface by which this host would send there: that of the source address."""
    if any(host in device.addresses for device in devices):
        return ""
    family = socket.AF_INET if isinstance(host, IPv4Address) else socket.AF_INET6
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        asking.connect((str(host), _ANY_PORT))
        own = ip_address(asking.getsockname()[0].partition("%")[0])
        return next((device.name for device in devices if own in device.addresses), "")
    return None


def _names(devices: Mapping[str, Device]) -> dict[str, str]:
    """The names of interfaces by all of their names."""
    return {name: each.name for each in devices.values() for name in each.names}


def _xdp_obstacles(
    rules: Iterable[Rule],
    devices: Mapping[str, Device],
    ways: Mapping[Address, str | None],
) -> Iterator[tuple[tuple[str, int], str]]:
    """Check the interfaces of outputs."""
    called = _names(devices)
    used = set()
    for output in (output for rule in rules for output in rule.outputs):
        address = output.address
        name = called.get(output.interface or "")
        if name is None and isinstance(address, Address):
            name = ways.get(address)
        if name and isinstance(address, Address | Network):
            used.add((name, address.version))
    for name, version in sorted(used):
        if (why := _native.xdp_obstacle(name, version == _IPV4)) is not None:
            yield (name, version), why


def _refused_joins(
    rules: Iterable[Rule], devices: Mapping[str, Device]
) -> Iterator[tuple[tuple[str, Address], str]]:
    """Try to join the groups of which this host is not a member; of a block the first."""
    wanted = {
        (rule.input.interface, first_of(rule.input.group)): None
        for rule in rules
        if rule.input.effective_join == "each"
    }
    called = {name: each for each in devices.values() for name in each.names}
    for name, group in wanted:
        device = called.get(name or "")
        if device is None or not group.is_multicast or group in device.groups:
            continue
        if (why := _try_join(device, group)) is not None:
            yield (device.name, group), why


def _try_join(device: Device, group: Address) -> str | None:
    """Join a group, look for it in the kernel's list, and leave it; return the error, if any."""
    if isinstance(group, IPv4Address):
        family, level, option = socket.AF_INET, socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP
        request = struct.pack("4s4si", group.packed, bytes(4), device.index)
    else:
        family, level, option = socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP
        request = struct.pack("16si", group.packed, device.index)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as member:
            member.setsockopt(level, option, request)
            if (device.name, group) in _memberships():
                return None
    except OSError as error:
        number = error.errno or 0
        return f"{os.strerror(number)} ({errno.errorcode.get(number, number)})"
    return "the kernel reports success, but does not list it"
