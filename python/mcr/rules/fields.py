"""The fields of a rule: one function each, from any object to the typed value.

Owns the ranges and their messages, which hold for text and constructors alike. Knows neither the
rule text nor this host. Every function raises `Invalid` with one sentence that names the fix.
"""

import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import pairwise
from typing import Literal, TypeVar, get_args

from ..errors import ArgumentError, FieldPath, Problem, RuleError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Join = Literal["each", "none"]
Keep = Literal["keep"]
TtlWord = Literal["keep", "decrement"]
TTL_WORDS: tuple[TtlWord, ...] = get_args(TtlWord)
Ttl = int | TtlWord
BROADCAST = IPv4Address("255.255.255.255")
"""All hosts of a link (RFC 919, 7): it never leaves the link, and so needs an interface."""
T = TypeVar("T")
V = TypeVar("V")

NAME_LIMIT_CHARS = 64
DEFAULT_TTL_MULTICAST = 1  # the kernel's default (RFC 1112, 6.1): a copy stays on its link
DEFAULT_TTL_UNICAST = 64  # RFC 1700, "Time to live"
TTL_LIMIT = 255  # one octet of the header
JOIN_LIMIT_GROUPS = 4096
"""The most groups that a rule joins: the kernel keeps and reports each of them."""
JOIN_DEFAULT_GROUPS = 2048
"""The most that it joins without ``join=each``: half of what a Linux bridge keeps by default."""
INTERFACE_LIMIT_BYTES = 127  # of an alternative name: ALTIFNAMSIZ - 1
_HOST_LIMIT_CHARS = 253  # RFC 1035, 2.3.4, without the root's dot
_HOST_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_SCOPE_END_BITS = 16  # RFC 4291, 2.7: ff, flags, scope
MAX_PAYLOAD_BYTES = 65527  # of UDP
INPUT_LIMIT = 4
"""The most inputs of a rule."""
SEQUENCE_WIDTHS = (8, 16, 24, 32, 48, 64)
_RTP_CLOCK = re.compile(r"rtp/([0-9]{1,10})", re.ASCII)
SEQUENCE_FIELD = re.compile(r"([0-9]{1,6}):([0-9]{1,3})(le|)", re.ASCII)
_LENGTH = re.compile(r"[0-9]{1,3}", re.ASCII)
_IPV4_LIKE = re.compile(r"[0-9./]+")


class Invalid(ArgumentError):
    """A value that its field cannot hold; the text is the problem's message."""


class ProblemCollector:
    """Collects the problems of one value, so that all of them are reported at once."""

    def __init__(self) -> None:
        """Starts empty."""
        self.problems: list[Problem] = []

    def field(self, path: str | FieldPath, parse: Callable[[V], T], value: V) -> T | None:
        """The parsed value; None if `parse` refuses it, which is noted as a problem."""
        try:
            return parse(value)
        except Invalid as error:
            self.add(path, str(error))
            return None

    def optional(self, path: str | FieldPath, parse: Callable[[V], T], value: V | None) -> T | None:
        """As `field`, but accepts None, which means that the field is not given."""
        return None if value is None else self.field(path, parse, value)

    def add(self, path: str | FieldPath, message: str) -> None:
        """Notes a problem found elsewhere."""
        self.problems.append(Problem(path, message))

    def same_family(self, path: str | FieldPath, sources: object, address: object) -> None:
        """Notes each source whose IP version differs from that of `address`, if that is one."""
        if not isinstance(address, Address | Network):
            return
        for source in sources if isinstance(sources, tuple) else (sources,):
            if isinstance(source, Address) and source.version != address.version:
                version = f"IPv{source.version}, but {address} is IPv{address.version}"
                self.add(path, f"{source} is {version}")

    def joinable(self, path: str | FieldPath, join: object, group: object) -> None:
        """Notes a join of something that cannot be joined; skips a group that is no address."""
        if join is None or not isinstance(group, Address | Network):
            return
        groups = 2 ** block_bits(group)
        if not group.is_multicast:
            self.add(path, f"applies to groups only; {group} is the address of a host")
        elif join == "each" and groups > JOIN_LIMIT_GROUPS:
            self.add(
                path,
                f"{group} has {groups} groups, but a rule joins at most {JOIN_LIMIT_GROUPS}; write"
                " join=none, or a smaller block",
            )

    def raise_if_any(self) -> None:
        """Raises `RuleError` with all problems, if there are any."""
        if self.problems:
            raise RuleError(self.problems)


def address(value: object) -> Address:
    """An address that datagrams can be sent to."""
    return _usable(_address(value))


def group(value: object) -> Address | Network:
    """The address of an input: a group, a block of groups, a broadcast address or this host's."""
    if isinstance(value, str) and not _reads_as_address(value):
        raise Invalid(f"{value!r} is not an IP address; an input cannot be a host name")
    return _block(value)


def destination(value: object) -> Address | Network | str:
    """The address of an output: as that of an input, or a host name in lower case (RFC 1123)."""
    if isinstance(value, str) and not _reads_as_address(value):
        return _host(value)
    return _block(value)


def first_of(block: Address | Network) -> Address:
    """The address, or the first of a block."""
    return block.network_address if isinstance(block, Network) else block


def block_of(first: Address, bits: int) -> Address | Network:
    """The address, or the block in which the lowest `bits` bits vary."""
    return ip_network((first, first.max_prefixlen - bits)) if bits else first


def block_bits(block: object) -> int:
    """The number of low bits that vary in a block; 0 for a single address or a host name."""
    return block.max_prefixlen - block.prefixlen if isinstance(block, Network) else 0


def source(value: object) -> Address:
    """The address of a sender."""
    address = _usable(_address(value))
    if address.is_multicast:
        raise Invalid(f"{address} is a multicast group; a source must be the address of a host")
    if address == BROADCAST:
        raise Invalid(f"{address} is a broadcast address; a source must be the address of a host")
    return address


def sources(value: object) -> tuple[Address, ...]:
    """Addresses of senders in ascending order, so that a set has one spelling."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise Invalid(f"{value!r} must be a sequence of addresses")
    parsed = [source(item) for item in value]
    ascending = sorted(parsed, key=lambda address: (address.version, int(address)))
    for one, next_one in pairwise(ascending):
        if one == next_one:
            raise Invalid(f"{one} is listed twice")
    return tuple(ascending)


def port(value: object) -> int:
    """A UDP port that datagrams can be sent to."""
    return integer(value, 1, 65535)


def ports(value: object) -> int | range:
    """A port or a range; a range of one is that port, so that it has one spelling."""
    if not isinstance(value, range):
        return port(value)
    if not value or value.step != 1:
        raise Invalid(f"{value!r} is not a range of ports with the step 1")
    first, last = port(value[0]), port(value[-1])
    return first if first == last else value


def port_count(value: int | range) -> int:
    """The number of ports."""
    return len(value) if isinstance(value, range) else 1


def join(value: object) -> Join:
    """The groups of a rule that are joined: each or none."""
    if value == "each":
        return "each"
    if value == "none":
        return "none"
    raise Invalid(f"must be 'each' or 'none', not {value!r}")


def ttl(value: object) -> int:
    """The TTL or hop limit of the copies."""
    return integer(value, 1, TTL_LIMIT)


def dscp(value: object) -> int:
    """The DSCP of the copies (RFC 2474): the upper six bits of the traffic class."""
    return integer(value, 0, 63)


def output_ttl(value: object) -> Ttl:
    """The TTL of the copies: a number, the datagram's own, or one less."""
    for word in TTL_WORDS:
        if value == word:
            return word
    return _or_word(ttl, value, "'keep' or 'decrement'")


def output_dscp(value: object) -> int | Keep:
    """The DSCP of the copies: a number, or the datagram's own."""
    return "keep" if _is_keep(value) else _or_word(dscp, value, "'keep'")


def output_source(value: object) -> Address | Keep:
    """The source of copies: an address of this host, or the original sender's."""
    return "keep" if _is_keep(value) else _or_word(source, value, "'keep'")


def output_source_port(value: object) -> int | Keep:
    """The source port of copies: a number, or the original sender's."""
    return "keep" if _is_keep(value) else _or_word(port, value, "'keep'")


def vlan(value: object) -> int:
    """A VLAN id that frames can carry (IEEE 802.1Q: 0 means untagged, 4095 is reserved)."""
    return integer(value, 1, 4094)


def sequence(value: object) -> str:
    """How datagrams are numbered, in canonical text.

    The rate of RTP time stamps is in Hz, a number's offset in bytes, its width in bits.
    """
    if not isinstance(value, str):
        raise Invalid(f"must be a string, not {value!r}")
    if value in {"rtp", "ts", "mold", "mcr", "none"}:
        return value
    if clock := _RTP_CLOCK.fullmatch(value):
        return f"rtp/{integer(int(clock[1]), 1, 1_000_000_000)}"
    place = SEQUENCE_FIELD.fullmatch(value)
    if place is None:
        raise Invalid(
            f"must be rtp, rtp/CLOCK_HZ, ts, mold, mcr, none, or OFFSET:WIDTH of a number, such as"
            f" 4:32 or 4:32le, not {value!r}"
        )
    offset, width = integer(int(place[1]), 0, MAX_PAYLOAD_BYTES), int(place[2])
    if width not in SEQUENCE_WIDTHS:
        raise Invalid(f"the width must be 8, 16, 24, 32, 48 or 64 bits, not {width}")
    has_order = width > SEQUENCE_WIDTHS[0]
    return f"{offset}:{width}{place[3] if has_order else ''}"


def received_sequence(value: object) -> str:
    """How a receiver reads numbers: as a rule says it, or `auto` for any known format."""
    return value if value == "auto" and isinstance(value, str) else sequence(value)


def default_ttl(address: Address | Network | str) -> int:
    """The TTL of an output to this address without the option."""
    if isinstance(address, str):
        return DEFAULT_TTL_UNICAST
    on_link = address.is_multicast or address == BROADCAST
    return DEFAULT_TTL_MULTICAST if on_link else DEFAULT_TTL_UNICAST


def priority(value: object) -> int:
    """SO_PRIORITY of an output: the values that need no rights."""
    return integer(value, 0, 6)


def loop(value: object) -> bool:
    """Whether receivers on this host get the copies too (IP_MULTICAST_LOOP)."""
    return switch(value)


def switch(value: object) -> bool:
    """True or False, and nothing that counts as one of them."""
    if not isinstance(value, bool):
        raise Invalid(f"must be True or False, not {value!r}")
    return value


def interface(value: object) -> str:
    """A possible name of an interface, its own or an alternative one (ip-link(8), property)."""
    if not isinstance(value, str):
        raise Invalid(f"must be a string, not {value!r}")
    if not value:
        raise Invalid("must not be empty; write address%interface:port")
    if len(value.encode(errors="replace")) > INTERFACE_LIMIT_BYTES:
        raise Invalid(f"{value!r} is longer than {INTERFACE_LIMIT_BYTES} bytes")
    if value in {".", ".."} or not value.isprintable() or re.search(r"[/\s]", value):
        raise Invalid(f"{value!r} is not a possible interface name")
    return value


def rule_name(value: object) -> str:
    """The name of a rule: suitable for the rule text, a log and a terminal."""
    if not isinstance(value, str):
        raise Invalid(f"must be a string, not {value!r}")
    if not value or len(value) > NAME_LIMIT_CHARS:
        raise Invalid(f"must have 1 to {NAME_LIMIT_CHARS} characters")
    if "," in value or not value.isprintable() or re.search(r"\s", value):
        raise Invalid(f"{value!r} contains a comma, a space or an unprintable character; omit it")
    return value


def integer(value: object, low: int, high: int) -> int:
    """An integer in a range; True and False are not integers."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid(f"must be an integer from {low} to {high}, not {value!r}")
    if not low <= value <= high:
        raise Invalid(f"{value} is out of range: {low} to {high}")
    return value


def _is_keep(value: object) -> bool:
    return isinstance(value, str) and value == "keep"


def _or_word(parse: Callable[[object], T], value: object, words: str) -> T:
    """As `parse`; the message for text also names the words that the field accepts."""
    try:
        return parse(value)
    except Invalid as error:
        if isinstance(value, str):
            raise Invalid(f"{error} (it may also be {words})") from None
        raise


def _reads_as_address(text: str) -> bool:
    """Whether the text was meant as an IP address, valid or not."""
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
    """An address or a block of groups; a block of one address is that address."""
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
        raise Invalid(f"{text} has a zone; give the interface in its own field")
    if not _LENGTH.fullmatch(length) or int(length) > first.max_prefixlen:
        raise Invalid(f"{text!r}: the prefix length after '/' must be 0 to {first.max_prefixlen}")
    block = ip_network((first, int(length)), strict=False)
    if block.network_address != first:
        if not block.is_multicast:
            raise _no_block(text, block)
        raise Invalid(f"{text} has host bits set; write {block}")
    return block


def _no_block(text: str, block: Network) -> Invalid:
    groups = "224.0.0.0/4" if isinstance(block, IPv4Network) else "ff00::/8"
    return Invalid(
        f"{text} is not a block of multicast groups, as a block must be; write one within {groups},"
        " or a single address"
    )


def _usable(address: Address) -> Address:
    """Refuses addresses that cannot be a destination, or that have another spelling."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise Invalid(f"{address} has a zone; give the interface in its own field")
        if address.ipv4_mapped is not None:
            raise Invalid(f"{address} is an IPv4-mapped address; write {address.ipv4_mapped}")
        if address.is_multicast and address.packed[1] & 0x0F <= 1:  # RFC 4291, 2.7
            raise Invalid(
                f"{address} has interface-local scope (ff01::) and never leaves a host;"
                " use ff02:: or wider"
            )
    if address.is_unspecified:
        raise Invalid(f"{address} means any address; write a specific one")
    return address


def _host(text: str) -> str:
    host = text.lower()
    labels = host.removesuffix(".").split(".")
    fits = len(host) <= _HOST_LIMIT_CHARS and all(_HOST_LABEL.fullmatch(label) for label in labels)
    if not fits or labels[-1].isdigit():
        raise Invalid(f"{text!r} is neither an IP address nor a host name")
    return host
