"""This host at one moment: its interfaces, its addresses, and what it hears of its own copies.

Owns the facts that rules are judged by. What one rule makes of them is the business of `resolver`.
"""

import difflib
import functools
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address
from typing import Protocol

from . import loopback
from .fields import BROADCAST, Address, Network
from .loopback import Ingress
from .spec import ResolvedOutput

_LIST_LIMIT = 12  # names or addresses in one message: beyond it nobody reads


class Interface(Protocol):
    """What is asked of an interface; `mcr._native.interfaces()` gives such objects."""

    @property
    def name(self) -> str:
        """The kernel's name for it."""

    @property
    def altnames(self) -> Sequence[str]:
        """Its alternative names, each as good as the name."""

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


class LocalHost:
    """The interfaces of this host at one moment, by what they are asked for."""

    def __init__(self, interfaces: Iterable[Interface], ingress: Ingress) -> None:
        """Indexes the interfaces; asks the system nothing.

        Args:
            interfaces: of this host, as they are now.
            ingress: how datagrams are received.
        """
        self.ingress = ingress
        self._interfaces = tuple(interfaces)
        self._named_so: dict[str, Interface] = {}
        self._owners: dict[Address, list[Interface]] = {}
        self._broadcasts: dict[Address, list[Interface]] = {}
        for interface in self._interfaces:
            self._named_so |= dict.fromkeys((interface.name, *interface.altnames), interface)
            for address in interface.addresses:
                self._owners.setdefault(address, []).append(interface)
            for broadcast in interface.broadcasts:
                self._broadcasts.setdefault(broadcast, []).append(interface)
        self.loopbacks = {each.name: each for each in self._interfaces if each.loopback}

    @property
    def names(self) -> Iterable[str]:
        """What interfaces may be called: their names and alternative names."""
        return self._named_so.keys()

    @property
    def addresses(self) -> Iterable[Address]:
        """The addresses of all interfaces, each once."""
        return self._owners.keys()

    def interface(self, name: str) -> Interface | None:
        """The interface that is called so."""
        return self._named_so.get(name)

    def index(self, name: str) -> int:
        """The kernel's number for the interface that is called so; 0 if none is."""
        return self._named_so[name].index if name in self._named_so else 0

    def device(self, name: str) -> str:
        """The own name of the interface that is called so; the name itself if none is."""
        return self._named_so[name].name if name in self._named_so else name

    def owners(self, address: Address) -> list[Interface]:
        """The interfaces that have this address; all of 127.0.0.0/8 is the loopback's."""
        owners = self._owners.get(address, [])
        return owners if owners or not address.is_loopback else list(self.loopbacks.values())

    def broadcasters(self, address: Address) -> list[Interface]:
        """The interfaces on one of whose networks this address means every host."""
        return self._broadcasts.get(address, [])

    def is_broadcast(self, address: Address | Network) -> bool:
        """Whether it means every host, of one network or of all."""
        return address == BROADCAST or address in self._broadcasts

    def is_known(self, address: Address | Network) -> bool:
        """Whether the address is this host's, or one of its broadcasts."""
        return isinstance(address, Network) or bool(
            self.owners(address) or self.is_broadcast(address)
        )

    def is_loopback(self, name: str) -> bool:
        """Whether the interface leads nowhere beyond this host."""
        return name in self.loopbacks

    def hears(self, output: ResolvedOutput) -> bool:
        """Whether inputs of this host get copies of this output, if they listen where it sends."""
        if not output.is_shared:
            return bool(self.owners(output.address))
        return loopback.comes_back(output, self.ingress, self.loopbacks)

    def senders(self, output: ResolvedOutput) -> list[Address]:
        """The addresses of this host that copies of this output may carry as their source."""
        if isinstance(output.source, Address):
            return [output.source]
        addresses: Iterable[Address] = self._owners
        if output.interface:
            interface = self._named_so.get(output.interface)
            addresses = interface.addresses if interface else ()
        return [each for each in addresses if each.version == output.address.version]

    def multicast_names(self) -> list[str]:
        """The names of the interfaces that take part in multicast now."""
        return [each.name for each in self._interfaces if each.up and can_multicast(each)]


def can_multicast(interface: Interface) -> bool:
    """Whether groups can be joined on the interface, and sent to."""
    return interface.multicast or interface.loopback


def missing_interface(name: str, known: Iterable[str]) -> str:
    """What is said of a name that no interface has: the nearest one, and all that there are."""
    names = tuple(known)
    close = _nearest(name, names)
    hint = f"did you mean {close!r}? " if close else ""
    return f"there is no interface {name!r}; {hint}this host has {listed(names)}"


@functools.lru_cache(1024)  # rules that wait for an interface ask again and again
def _nearest(name: str, names: tuple[str, ...]) -> str | None:
    return next(iter(difflib.get_close_matches(name, names, n=1)), None)


def listed(items: Iterable[object], empty: str = "none", *, last: str = ", ") -> str:
    """The items for a sentence, cut where nobody reads on."""
    texts = [str(item) for item in items]
    if len(texts) > _LIST_LIMIT:
        return ", ".join(texts[:_LIST_LIMIT]) + f" and {len(texts) - _LIST_LIMIT} more"
    if not texts:
        return empty
    return last.join(filter(None, [", ".join(texts[:-1]), texts[-1]]))
