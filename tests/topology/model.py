"""What a relay should do, as a page of plain Python: the oracle for the engine.

Pure: it decides, it does not send. It shares no code with the product.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import groupby

LARGEST_UNFRAGMENTED_IPV6 = 1500 - 40 - 8


@dataclass(frozen=True, slots=True)
class PlainDatagram:
    """One datagram on the input interface."""

    source: str
    group: str
    port: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class PlainRule:
    """One input and the number of its outputs; no sources means any source."""

    group: str
    """One group, or a block of them."""
    ports: range
    sources: frozenset[str]
    outputs: int

    def names(self, datagram: PlainDatagram) -> bool:
        """Whether the datagram is for one of the rule's groups and ports."""
        return datagram.port in self.ports and ip_address(datagram.group) in ip_network(self.group)

    @property
    def breadth(self) -> tuple[int, int]:
        """How much it names: first the groups count, then the ports."""
        return ip_network(self.group).num_addresses, len(self.ports)


def deciding(rules: Sequence[PlainRule], datagram: PlainDatagram) -> list[int]:
    """The numbers of the rules that take a datagram.

    Of the rules that name its group and port those that name the least come first. Among equals
    those that list its source win over those that list none; whom they leave out, the next take.
    """
    there = [number for number, rule in enumerate(rules) if rule.names(datagram)]
    there.sort(key=lambda number: rules[number].breadth)
    for _, equals in groupby(there, key=lambda number: rules[number].breadth):
        numbers = list(equals)
        listed = [number for number in numbers if datagram.source in rules[number].sources]
        takers = listed or [number for number in numbers if not rules[number].sources]
        if takers:
            return takers
    return []


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
