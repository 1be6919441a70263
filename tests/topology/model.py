"""What a relay should do, as a page of plain Python: the oracle for the engine.

Pure: it decides, it does not send. It shares no code with the product.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

LARGEST_UNFRAGMENTED_IPV6 = 1500 - 40 - 8


@dataclass(frozen=True, slots=True)
class PlainRule:
    """One input and the number of its outputs; no sources means any source."""

    group: str
    port: int
    sources: frozenset[str]
    outputs: int


@dataclass(frozen=True, slots=True)
class PlainDatagram:
    """One datagram on the input interface."""

    source: str
    group: str
    port: int
    payload: bytes


def deciding(rules: Sequence[PlainRule], datagram: PlainDatagram) -> list[int]:
    """The numbers of the rules that take a datagram.

    Rules on its group and port that list its source win over rules that list none.
    """
    there = [
        number
        for number, rule in enumerate(rules)
        if (rule.group, rule.port) == (datagram.group, datagram.port)
    ]
    listed = [number for number in there if datagram.source in rules[number].sources]
    return listed or [number for number in there if not rules[number].sources]


def relayed(
    rules: Sequence[PlainRule], datagrams: Iterable[PlainDatagram], *, ingress: str
) -> list[list[bytes]]:
    """What each rule's outputs get, in order of arrival.

    The packet ingress cannot put IPv6 fragments together and drops them.
    """
    results: list[list[bytes]] = [[] for _ in rules]
    for datagram in datagrams:
        fragmented = len(datagram.payload) > LARGEST_UNFRAGMENTED_IPV6
        if ingress == "packet" and fragmented and ip_address(datagram.group).version == 6:
            continue
        for number in deciding(rules, datagram):
            results[number].append(datagram.payload)
    return results
