"""A snapshot of this host: its interfaces and addresses, and which of its own copies it receives.

`resolver` checks rules against it.
"""

import functools
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address
from typing import NamedTuple, Protocol

from ..choices import Ingress
from ..similar_names import suggestion
from . import loopback
from .fields import BROADCAST, Address, Network
from .spec import ResolvedOutput

_LIST_LIMIT = 12  # names or addresses in one message; a longer list is unreadable


class Interface(Protocol):
    """The attributes of an interface; `mcr._native.interfaces()` returns such objects."""

    @property
    def name(self) -> str:
        """The kernel name."""

    @property
    def altnames(self) -> Sequence[str]:
        """The alternative names, which are equivalent to the name."""

    @property
    def index(self) -> int:
        """The interface index."""

    @property
    def up(self) -> bool:
        """Whether it is up (IFF_UP)."""

    @property
    def multicast(self) -> bool:
        """Whether it supports multicast (IFF_MULTICAST)."""

    @property
    def loopback(self) -> bool:
        """Whether it is a loopback interface, where joining works without IFF_MULTICAST."""

    @property
    def addresses(self) -> Sequence[Address]:
        """The addresses of both IP versions, without zones."""

    @property
    def broadcasts(self) -> Sequence[IPv4Address]:
        """The broadcast addresses of its IPv4 networks."""


class _Link(NamedTuple):
    """What each rule asks of an interface, which makes a new object at each access."""

    device: str
    ifindex: int
    versions: frozenset[int]
    """The IP versions of its addresses."""


_MISSING = _Link("", 0, frozenset())


class LocalHost:
    """The interfaces of this host at one moment, indexed by name and address."""

    def __init__(self, interfaces: Iterable[Interface], ingress: Ingress) -> None:
        """Index the interfaces; makes no system call.

        Args:
            interfaces: the current interfaces of this host.
            ingress: how datagrams are received.
        """
        self.ingress = ingress
        self._interfaces = tuple(interfaces)
        self._by_name: dict[str, Interface] = {}
        self._owners: dict[Address, list[Interface]] = {}
        self._broadcasts: dict[Address, list[Interface]] = {}
        self._links: dict[str, _Link] = {}
        for interface in self._interfaces:
            names, addresses = (interface.name, *interface.altnames), interface.addresses
            self._by_name |= dict.fromkeys(names, interface)
            versions = frozenset(each.version for each in addresses)
            self._links |= dict.fromkeys(names, _Link(interface.name, interface.index, versions))
            for address in addresses:
                self._owners.setdefault(address, []).append(interface)
            for broadcast in interface.broadcasts:
                self._broadcasts.setdefault(broadcast, []).append(interface)
        self.loopbacks = {each.name: each for each in self._interfaces if each.loopback}

    def is_same(self, other: "LocalHost") -> bool:
        """Whether rules are resolved alike on both."""
        return self.ingress == other.ingress and self._facts == other._facts

    @functools.cached_property
    def _facts(self) -> list[list[object]]:
        return [
            [
                *(each.name, each.index, each.up, each.multicast, each.loopback),
                *([*each.altnames], [*each.addresses], [*each.broadcasts]),
            ]
            for each in self._interfaces
        ]

    @property
    def names(self) -> Iterable[str]:
        """The names and alternative names of all interfaces."""
        return self._by_name.keys()

    @property
    def addresses(self) -> Iterable[Address]:
        """The addresses of all interfaces, without duplicates."""
        return self._owners.keys()

    def interface(self, name: str) -> Interface | None:
        """The interface with this name or alternative name."""
        return self._by_name.get(name)

    def index(self, name: str) -> int:
        """The index of the interface with this name; 0 if there is none."""
        return self._links.get(name, _MISSING).ifindex

    def device(self, name: str) -> str:
        """The kernel name of the interface with this name; the name itself if there is none."""
        return self._links[name].device if name in self._links else name

    def has_version(self, name: str, version: int) -> bool:
        """Whether the interface with this name has an address of an IP version."""
        return version in self._links.get(name, _MISSING).versions

    def owners(self, address: Address) -> list[Interface]:
        """The interfaces with this address; the loopback owns all of 127.0.0.0/8."""
        owners = self._owners.get(address, [])
        return owners if owners or not address.is_loopback else list(self.loopbacks.values())

    def broadcasters(self, address: Address) -> list[Interface]:
        """The interfaces with a network of which this is the broadcast address."""
        return self._broadcasts.get(address, [])

    def is_broadcast(self, address: Address | Network) -> bool:
        """Whether this is 255.255.255.255 or the broadcast address of a local network."""
        return address == BROADCAST or address in self._broadcasts

    def is_known(self, address: Address | Network) -> bool:
        """Whether this is an address of this host, a broadcast address, or a block of groups."""
        return isinstance(address, Network) or bool(
            self.owners(address) or self.is_broadcast(address)
        )

    def is_loopback(self, name: str) -> bool:
        """Whether this is a loopback interface."""
        return name in self.loopbacks

    def receives(self, output: ResolvedOutput) -> bool:
        """Whether a matching input of this host would receive copies of this output."""
        if not output.is_shared:
            return bool(self.owners(output.address))
        return loopback.is_looped_back(output, self.ingress, self.loopbacks)

    def senders(self, output: ResolvedOutput) -> list[Address]:
        """The addresses of this host that may be the source of this output's copies."""
        if isinstance(output.source, Address):
            return [output.source]
        addresses: Iterable[Address] = self._owners
        if output.interface:
            interface = self._by_name.get(output.interface)
            addresses = interface.addresses if interface else ()
        return [each for each in addresses if each.version == output.address.version]

    def multicast_names(self) -> list[str]:
        """The names of the interfaces that are up and support multicast."""
        return [each.name for each in self._interfaces if each.up and can_multicast(each)]


def can_multicast(interface: Interface) -> bool:
    """Whether the interface can join groups and send to them."""
    return interface.multicast or interface.loopback


def missing_interface(name: str, known: Iterable[str]) -> str:
    """The message for an unknown interface: the closest name, and all existing ones."""
    names = tuple(known)
    hint = _suggestion(name, names)
    return f"there is no interface {name!r}; {hint}this host has {listed(names)}"


@functools.lru_cache(1024)  # rules that wait for an interface are resolved again and again
def _suggestion(name: str, names: tuple[str, ...]) -> str:
    return suggestion(name, names, after=" ")


def listed(items: Iterable[object], empty: str = "none", *, last: str = ", ") -> str:
    """Join the items for a message, up to a limit.

    Args:
        items: converted with `str`.
        empty: the text if there are no items.
        last: the separator before the last item.
    """
    texts = [str(item) for item in items]
    if len(texts) > _LIST_LIMIT:
        return ", ".join(texts[:_LIST_LIMIT]) + f" and {len(texts) - _LIST_LIMIT} more"
    if not texts:
        return empty
    return last.join(filter(None, [", ".join(texts[:-1]), texts[-1]]))
