"""What each field of a rule may hold: one function a field, from any object to the typed value.

Owns ranges and their messages, so that text and constructors judge alike. Knows neither the rule
text nor this host. Every function raises `Invalid` with one sentence that names the fix.
"""

import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from typing import TypeVar

from .errors import Problem, RuleError

Address = IPv4Address | IPv6Address
BROADCAST = IPv4Address("255.255.255.255")
"""Every host of a link (RFC 919, 7): it never leaves the link, and so needs an interface."""
T = TypeVar("T")
V = TypeVar("V")

NAME_LIMIT_CHARS = 64
INTERFACE_LIMIT_BYTES = 15  # IFNAMSIZ - 1
_HOST_LIMIT_CHARS = 253  # RFC 1035, 2.3.4, without the root's dot
_HOST_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_IPV4_LIKE = re.compile(r"[0-9./]+")


class Invalid(ValueError):
    """A value that its field cannot hold; the text is the problem's message."""


class Checks:
    """Collects the problems of one value, so that all of them are reported at once."""

    def __init__(self) -> None:
        """Starts without a problem."""
        self.problems: list[Problem] = []

    def field(self, name: str, parse: Callable[[V], T], value: V) -> T | None:
        """The parsed value; None, with the problem noted, if `parse` refuses it."""
        try:
            return parse(value)
        except Invalid as error:
            self.problems.append(Problem(name, str(error)))
            return None

    def optional(self, name: str, parse: Callable[[V], T], value: V | None) -> T | None:
        """As `field`, but None stands for "not given" and passes."""
        return None if value is None else self.field(name, parse, value)

    def note(self, field: str, message: str) -> None:
        """Notes a problem found elsewhere."""
        self.problems.append(Problem(field, message))

    def same_family(self, field: str, sources: object, address: object) -> None:
        """Notes each source of the other IP version than `address`; skips what is no address."""
        if not isinstance(address, Address):
            return
        for source in sources if isinstance(sources, tuple) else (sources,):
            if isinstance(source, Address) and source.version != address.version:
                self.note(field, f"{source} is IPv{source.version}, {address} IPv{address.version}")

    def done(self) -> None:
        """Raises `RuleError` with everything noted, if anything was."""
        if self.problems:
            raise RuleError(self.problems)


def group(value: object) -> Address:
    """The address a rule listens on: a group, an address of this host, or a broadcast address."""
    if isinstance(value, str) and not _reads_as_address(value):
        raise Invalid(f"{value!r} is not an IP address; an input takes no host names")
    return _usable(_address(value))


def destination(value: object) -> Address | str:
    """Where an output sends to: an address, or a host name in lower case (RFC 1123, 2.1)."""
    if isinstance(value, str) and not _reads_as_address(value):
        return _host(value)
    return _usable(_address(value))


def source(value: object) -> Address:
    """One sender's address."""
    address = _usable(_address(value))
    if address.is_multicast:
        raise Invalid(f"{address} is a multicast group; a source is one host's address")
    if address == BROADCAST:
        raise Invalid(f"{address} is a broadcast address; a source is one host's address")
    return address


def sources(value: object) -> tuple[Address, ...]:
    """Senders' addresses in ascending order: a set has one spelling, however it was written."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise Invalid(f"{value!r} is not a sequence of addresses")
    parsed = [source(item) for item in value]
    ascending = sorted(parsed, key=lambda address: (address.version, int(address)))
    for one, next_one in pairwise(ascending):
        if one == next_one:
            raise Invalid(f"{one} is given twice")
    return tuple(ascending)


def port(value: object) -> int:
    """A UDP port that datagrams can go to."""
    return _whole(value, "port", 1, 65535)


def ttl(value: object) -> int:
    """The TTL or hop limit of the copies."""
    return _whole(value, "TTL", 1, 255)


def dscp(value: object) -> int:
    """The DSCP of the copies (RFC 2474): the upper six bits of the traffic class."""
    return _whole(value, "DSCP", 0, 63)


def vlan(value: object) -> int:
    """A VLAN id that frames can carry (IEEE 802.1Q: 0 means untagged, 4095 is reserved)."""
    return _whole(value, "VLAN id", 1, 4094)


def priority(value: object) -> int:
    """SO_PRIORITY of an output: what a process without rights may set."""
    return _whole(value, "priority", 0, 6)


def loop(value: object) -> bool:
    """Whether receivers on this host get the copies too (IP_MULTICAST_LOOP)."""
    if not isinstance(value, bool):
        raise Invalid(f"{value!r} is neither True nor False")
    return value


def interface(value: object) -> str:
    """A name that the kernel could give an interface (dev_valid_name)."""
    if not isinstance(value, str):
        raise Invalid(f"{value!r} is not an interface name")
    if not value:
        raise Invalid("the interface name is empty; write address%interface:port")
    if len(value.encode(errors="replace")) > INTERFACE_LIMIT_BYTES:
        raise Invalid(f"{value!r} is longer than {INTERFACE_LIMIT_BYTES} bytes")
    if value in {".", ".."} or not value.isprintable() or re.search(r"[/:\s]", value):
        raise Invalid(f"{value!r} is not a name an interface can have")
    return value


def rule_name(value: object) -> str:
    """A rule's name: fit for the rule text, for a log and for a terminal."""
    if not isinstance(value, str):
        raise Invalid(f"{value!r} is not a name")
    if not value or len(value) > NAME_LIMIT_CHARS:
        raise Invalid(f"a name has 1 to {NAME_LIMIT_CHARS} characters")
    if "," in value or not value.isprintable() or re.search(r"\s", value):
        raise Invalid(f"{value!r} has a comma, a space or an unprintable character; leave it out")
    return value


def _whole(value: object, noun: str, low: int, high: int) -> int:
    """A whole number in a range; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid(f"{value!r} is not a whole number; a {noun} is {low} to {high}")
    if not low <= value <= high:
        raise Invalid(f"{value} is out of range; a {noun} is {low} to {high}")
    return value


def _reads_as_address(text: str) -> bool:
    """Whether somebody who wrote this meant an IP address, right or wrong."""
    return ":" in text or _IPV4_LIKE.fullmatch(text) is not None


def _address(value: object) -> Address:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    if not isinstance(value, str):
        raise Invalid(f"{value!r} is not an IP address")
    if "/" in value:
        raise Invalid("address prefixes are not supported in this version; write one address")
    try:
        return ip_address(value)
    except ValueError:
        raise Invalid(f"{value!r} is not an IP address") from None


def _usable(address: Address) -> Address:
    """Refuses addresses that nothing can be sent to, or that have another spelling."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise Invalid(f"{address} carries a zone; give the interface in its own field")
        if address.ipv4_mapped is not None:
            raise Invalid(f"{address} is IPv4 in disguise; write {address.ipv4_mapped}")
        if address.is_multicast and address.packed[1] & 0x0F <= 1:  # RFC 4291, 2.7
            raise Invalid(
                f"{address} has interface-local scope (ff01::) and never leaves a host;"
                " use ff02:: or wider"
            )
    if address.is_unspecified:
        raise Invalid(f"{address} stands for any address; write one")
    return address


def _host(text: str) -> str:
    host = text.lower()
    labels = host.removesuffix(".").split(".")
    fits = len(host) <= _HOST_LIMIT_CHARS and all(_HOST_LABEL.fullmatch(label) for label in labels)
    if not fits or labels[-1].isdigit():
        raise Invalid(f"{text!r} is neither an IP address nor a host name")
    return host
