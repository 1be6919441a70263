"""Warnings about rules that are valid but seldom meant.

Errors of a rule are found in `resolver` and `proposal`.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ..errors import FieldPath, Problem
from . import fields
from .fields import Address, Network
from .precedence import Rank
from .spec import ResolvedInput, ResolvedOutput

_LINK_LOCAL_CONTROL = IPv4Network("224.0.0.0/24")  # RFC 5771, 4
_SSM_V4 = IPv4Network("232.0.0.0/8")  # RFC 4607, 1
_SSM_V6 = IPv6Network("ff30::/12")  # RFC 4607, 1: ff3x::/32, so with 16 bits of zero after it
_PTP = frozenset(  # IEEE 1588: the primary domains, and peer delay
    IPv4Address(group)
    for group in ("224.0.1.129", "224.0.1.130", "224.0.1.131", "224.0.1.132", "224.0.0.107")
)


def input_warnings(taken: ResolvedInput, *, held_ports: int | None) -> Iterable[Problem]:
    """Warnings about a resolved input.

    Args:
        taken: the input.
        held_ports: the most ports that mcr keeps open for an input; None on the ingress `udp`.
    """
    block = taken.block
    if not taken.sources and _is_source_specific(block):
        yield Problem(
            ("input", "group"),
            f"{block} is source-specific (RFC 4607), but no source is given; routers forward it"
            f" only for a join with a source: write SOURCE@{block}",
        )
    if taken.join == "none":
        yield Problem(("input", "join"), _unjoined(taken))
    ports = taken.last_port - taken.port + 1
    if held_ports is not None and not taken.group.is_multicast and ports > held_ports:
        yield Problem(
            ("input", "port"),
            f"{ports} ports are more than the {held_ports} that mcr keeps open, so this host"
            " reports them to senders as unreachable, and datagrams that arrive on other interfaces"
            f" than {taken.interface} are not relayed",
        )
    yield from _special_group(("input", "group"), block)


def output_warnings(new: Mapping[int, Iterable[ResolvedOutput]]) -> Iterable[Problem]:
    """Warnings about resolved outputs, by the places of those that are written."""
    for place, outputs in new.items():
        for output in outputs:
            yield from _special_group(("output", place + 1, "address"), output.block)


def goes_behind(own: Rank, other: Rank, label: str, more: int) -> Problem:
    """The warning about a rule from which more specific ones take a part of its datagrams.

    Args:
        own: how specific the rule is.
        other: how specific the first of the others is.
        label: the name of that rule in messages.
        more: the number of further rules.
    """
    return Problem(
        "input",
        f"gets none of the datagrams that it shares with {_counted(label, more)}, which"
        f" {'are' if more else 'is'} more specific ({_difference(other, own)}); {_BOTH}",
    )


def goes_before(own: Rank, other: Rank, label: str, more: int) -> Problem:
    """The warning about a rule that takes a part of the datagrams of less specific ones."""
    return Problem(
        "input",
        f"is more specific ({_difference(own, other)}) than {_counted(label, more)}, which"
        f" {'get' if more else 'gets'} none of the datagrams that both are for; {_BOTH}",
    )


_BOTH = "if both should get them, name all outputs in the more specific rule"


def _counted(label: str, more: int) -> str:
    return f"{label} and {more} more" if more else label


def _difference(specific: Rank, general: Rank) -> str:
    """The reason why one rule precedes the other."""
    if specific.group_bits != general.group_bits:
        return "fewer groups"
    return "fewer ports" if specific.ports != general.ports else "sources listed"


def _unjoined(taken: ResolvedInput) -> str:
    groups = 2**taken.group_bits
    why = ""
    if groups > fields.JOIN_DEFAULT_GROUPS:
        why = f"{taken.block} has {groups} groups, more than the {fields.JOIN_DEFAULT_GROUPS} that"
        why += " a rule joins by default, so "
    what = (
        f"{why}no group is joined: a switch that snoops IGMP or MLD does not forward any, unless"
        " it forwards them statically"
    )
    if fields.JOIN_DEFAULT_GROUPS < groups <= fields.JOIN_LIMIT_GROUPS:
        what += "; join=each joins them, if every switch on the way has room for as many"
    return what


def _special_group(path: FieldPath, block: Address | Network) -> Iterable[Problem]:
    if block in _PTP:
        yield Problem(
            path,
            f"{block} is PTP (IEEE 1588), whose timestamps do not survive a relay",
        )
    elif _meets(block, _LINK_LOCAL_CONTROL):
        yield Problem(
            path,
            f"{block} is link-local control traffic (224.0.0.0/24), which belongs to one link;"
            " switches flood it",
        )


def _meets(block: Address | Network, network: IPv4Network) -> bool:
    """Whether the network contains the address or a part of the block."""
    if isinstance(block, Address):
        return block in network
    return isinstance(block, IPv4Network) and block.overlaps(network)


def _is_source_specific(block: Address | Network) -> bool:
    """Whether all groups are; in IPv6 the 16 bits after ff3x are zero too."""
    if isinstance(block, IPv4Address):
        return block in _SSM_V4
    if isinstance(block, IPv4Network):
        return block.subnet_of(_SSM_V4)
    if isinstance(block, IPv6Address):
        return block in _SSM_V6 and block.packed[2:4] == bytes(2)
    first, last = block.network_address, block.broadcast_address
    return _is_source_specific(first) and _is_source_specific(last)
