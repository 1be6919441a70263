"""The fields of a rule: one function each, from any object to the typed value.

Owns ranges and their messages, so that text and constructors judge alike. Knows neither the rule
text nor this host. Every function raises `Invalid` with one sentence that names the fix.
"""

import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import pairwise
from typing import Literal, TypeVar

from ..errors import Problem, RuleError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Join = Literal["each", "none"]
Keep = Literal["keep"]
Ttl = int | Literal["keep", "decrement"]
BROADCAST = IPv4Address("255.255.255.255")
"""Every host of a link (RFC 919, 7): it never leaves the link, and so needs an interface."""
T = TypeVar("T")
V = TypeVar("V")

NAME_LIMIT_CHARS = 64
TTL_LIMIT = 255  # one octet of the header
JOIN_LIMIT_GROUPS = 4096
"""A rule joins so many groups at most: the kernel keeps and reports each of them."""
JOIN_DEFAULT_GROUPS = 2048
"""And so many unless it says that it shall: half of what a Linux bridge keeps by default."""
INTERFACE_LIMIT_BYTES = 127  # of an alternative name: ALTIFNAMSIZ - 1
_HOST_LIMIT_CHARS = 253  # RFC 1035, 2.3.4, without the root's dot
_HOST_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_SCOPE_END_BITS = 16  # RFC 4291, 2.7: ff, flags, scope
_LENGTH = re.compile(r"[0-9]{1,3}", re.ASCII)
_IPV4_LIKE = re.compile(r"[0-9./]+")


class Invalid(ValueError):
    """A value that its field cannot hold; the text is the problem's message."""


class ProblemCollector:
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

    def add(self, field: str, message: str) -> None:
        """Notes a problem found elsewhere."""
        self.problems.append(Problem(field, message))

    def same_family(self, field: str, sources: object, address: object) -> None:
        """Notes each source of the other IP version than `address`; skips what is no address."""
        if not isinstance(address, Address | Network):
            return
        for source in sources if isinstance(sources, tuple) else (sources,):
            if isinstance(source, Address) and source.version != address.version:
                self.add(field, f"{source} is IPv{source.version}, {address} IPv{address.version}")

    def joinable(self, field: str, join: object, group: object) -> None:
        """Notes a join of what cannot be joined; skips what is no address."""
        if join is None or not isinstance(group, Address | Network):
            return
        groups = 2 ** block_bits(group)
        if not group.is_multicast:
            self.add(field, f"is for groups only; {group} is the address of a host")
        elif join == "each" and groups > JOIN_LIMIT_GROUPS:
            self.add(
                field,
                f"{group} has {groups} groups, and a rule joins at most {JOIN_LIMIT_GROUPS}; write"
                " join=none, or a smaller block",
            )

    def raise_if_any(self) -> None:
        """Raises `RuleError` with everything noted, if anything was."""
        if self.problems:
            raise RuleError(self.problems)


def address(value: object) -> Address:
    """One address that datagrams can go to."""
    return _usable(_address(value))


def group(value: object) -> Address | Network:
    """What a rule listens on: a group, a block of groups, a broadcast address or this host's."""
    if isinstance(value, str) and not _reads_as_address(value):
        raise Invalid(f"{value!r} is not an IP address; an input takes no host names")
    return _block(value)


def destination(value: object) -> Address | Network | str:
    """Where an output sends to: as an input's group, or a host name in lower case (RFC 1123)."""
    if isinstance(value, str) and not _reads_as_address(value):
        return _host(value)
    return _block(value)


def first_of(block: Address | Network) -> Address:
    """The address, or the first of a block."""
    return block.network_address if isinstance(block, Network) else block


def block_of(first: Address, bits: int) -> Address | Network:
    """The address, or the block in which so many low bits vary."""
    return ip_network((first, first.max_prefixlen - bits)) if bits else first


def block_bits(block: object) -> int:
    """How many low bits vary in a block of addresses; none in a single address or host name."""
    return block.max_prefixlen - block.prefixlen if isinstance(block, Network) else 0


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


def ports(value: object) -> int | range:
    """One port or several; a range of one is that port, so that it has one spelling."""
    if not isinstance(value, range):
        return port(value)
    if not value or value.step != 1:
        raise Invalid(f"{value!r} is no range of ports: it needs one at least, and the step 1")
    first, last = port(value[0]), port(value[-1])
    return first if first == last else value


def port_count(value: int | range) -> int:
    """How many ports these are."""
    return len(value) if isinstance(value, range) else 1


def join(value: object) -> Join:
    """Whether a rule's groups are joined, each of them, or none."""
    if value == "each":
        return "each"
    if value == "none":
        return "none"
    raise Invalid(f"{value!r} is neither 'each' nor 'none'")


def ttl(value: object) -> int:
    """The TTL or hop limit of the copies."""
    return _whole(value, "TTL", 1, TTL_LIMIT)


def dscp(value: object) -> int:
    """The DSCP of the copies (RFC 2474): the upper six bits of the traffic class."""
    return _whole(value, "DSCP", 0, 63)


def output_ttl(value: object) -> Ttl:
    """The TTL of the copies: a number, the datagram's own, or one less."""
    if value in ("keep", "decrement") and isinstance(value, str):
        return "keep" if value == "keep" else "decrement"
    return _or_word(ttl, value, "'keep' or 'decrement'")


def output_dscp(value: object) -> int | Keep:
    """The DSCP of the copies: a number, or the datagram's own."""
    return "keep" if _is_keep(value) else _or_word(dscp, value, "'keep'")


def output_source(value: object) -> Address | Keep:
    """Where copies come from: an address of this host, or the original sender's."""
    return "keep" if _is_keep(value) else _or_word(source, value, "'keep'")


def output_source_port(value: object) -> int | Keep:
    """The port that copies come from: a number, or the original sender's."""
    return "keep" if _is_keep(value) else _or_word(port, value, "'keep'")


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
    """A name that an interface could have, its own or an alternative one (ip-link(8), property)."""
    if not isinstance(value, str):
        raise Invalid(f"{value!r} is not an interface name")
    if not value:
        raise Invalid("the interface name is empty; write address%interface:port")
    if len(value.encode(errors="replace")) > INTERFACE_LIMIT_BYTES:
        raise Invalid(f"{value!r} is longer than {INTERFACE_LIMIT_BYTES} bytes")
    if value in {".", ".."} or not value.isprintable() or re.search(r"[/\s]", value):
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


def _is_keep(value: object) -> bool:
    return isinstance(value, str) and value == "keep"


def _or_word(parse: Callable[[object], T], value: object, words: str) -> T:
    """As `parse`; what is no value of its kind may have been meant as one of the words."""
    try:
        return parse(value)
    except Invalid as error:
        if isinstance(value, str):
            raise Invalid(f"{error} (or {words})") from None
        raise


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
        raise Invalid(f"{value!r} is a block of addresses; write one address")
    try:
        return ip_address(value)
    except ValueError:
        raise Invalid(f"{value!r} is not an IP address") from None


def _block(value: object) -> Address | Network:
    """An address, or a block of groups; a block of one address is that address."""
    if isinstance(value, str) and "/" in value:
        value = _network(value)
    if not isinstance(value, Network):
        return _usable(_address(value))
    first = value.network_address
    if block_bits(value) == 0:
        return _usable(first)
    if not value.is_multicast:
        raise _no_block(str(value), value)
    if value.prefixlen >= _SCOPE_END_BITS:  # all of it has the scope of its first address
        _usable(first)
    return value


def _network(text: str) -> Network:
    start, _, length = text.partition("/")
    first = _address(start)
    if "%" in start:
        raise Invalid(f"{text} carries a zone; give the interface in its own field")
    if not _LENGTH.fullmatch(length) or int(length) > first.max_prefixlen:
        raise Invalid(f"{text!r}: after '/' stands a length of 0 to {first.max_prefixlen}")
    block = ip_network((first, int(length)), strict=False)
    if block.network_address != first:
        if not block.is_multicast:
            raise _no_block(text, block)
        raise Invalid(f"{text} has bits set behind its length; write {block}")
    return block


def _no_block(text: str, block: Network) -> Invalid:
    groups = "224.0.0.0/4" if isinstance(block, IPv4Network) else "ff00::/8"
    return Invalid(
        f"{text} is no block of multicast groups, and only these can be a block; write one within"
        f" {groups}, or one address"
    )


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
