"""The values of an explanation, which are also JSON objects of the protocol."""

from dataclasses import dataclass

from ..json_codec import Count, JsonObject
from ..rules.fields import Address

RELAYED = "relayed"
"""The verdict on a datagram that at least one rule relays."""


@dataclass(frozen=True, slots=True)
class DatagramFacts(JsonObject):
    """A datagram, as it arrives on an interface."""

    group: Address
    """The destination: a group, or an address of this host."""
    port: Count
    interface: str
    """The name of the interface on which it arrives."""
    source: Address | None = None
    """The sender; None if it is not given: then no list of sources contains it."""
    source_port: Count = 0
    ttl: Count = 1
    dscp: Count = 0
    vlan: Count = 0
    """0 for an untagged frame."""
    size_bytes: Count = 0
    """The size of the UDP payload."""

    def __str__(self) -> str:
        """As `mcr explain` reads it."""
        group = f"{self.group}%{self.interface}:{self.port}"
        source = "" if self.source is None else f"{endpoint_text(self.source, self.source_port)}@"
        vlan = f" vlan={self.vlan}" if self.vlan else ""
        dscp = f" dscp={self.dscp}" if self.dscp else ""
        return f"{source}{group} ttl={self.ttl}{vlan}{dscp} size={self.size_bytes}"


@dataclass(frozen=True, slots=True)
class CopyExplanation(JsonObject):
    """A copy that an output would send."""

    output: str
    """The output as rule text."""
    destination: Address
    port: Count
    source: Address | None
    """The source address; None if there is no route that determines it."""
    source_port: Count | None
    """None if the kernel chooses one when the output is opened; it then stays the same."""
    ttl: Count
    dscp: Count
    interface: str | None
    """The interface by which it leaves; None if that is unknown."""
    gateway: Address | None
    """The router that gets it; None if it goes to its destination directly."""
    mac: str | None
    """The destination MAC address."""
    mac_state: str
    """known, stale (the kernel will confirm it), unknown (the kernel will ask), failed (the host
    does not answer, so copies are lost), or none (no Ethernet)."""
    size_bytes: Count
    mtu: Count | None
    """The MTU of the interface in bytes."""
    packets: Count
    """The number of IP packets; more than 1 are fragments."""
    loss: str | None
    """The reason why it would not be sent, as the counters of outputs name it."""
    why: str | None
    """A sentence about the loss."""


@dataclass(frozen=True, slots=True)
class RuleExplanation(JsonObject):
    """A rule that relays the datagram."""

    id: str
    name: str | None
    rule: str
    obstacle: str | None
    """Why its input receives nothing now."""
    outputs: tuple[CopyExplanation, ...]


@dataclass(frozen=True, slots=True)
class OtherRule(JsonObject):
    """A rule for the group of the datagram that does not relay it."""

    id: str
    name: str | None
    rule: str
    reason: str
    """shadowed, disabled, interface, port, vlan or source."""
    text: str
    """The reason in a sentence."""


@dataclass(frozen=True, slots=True)
class Explanation(JsonObject):
    """What a relay would do with a datagram."""

    datagram: DatagramFacts
    verdict: str
    """relayed, or the reason why no rule relays it, as the counters of interfaces name it."""
    text: str
    """The verdict in a sentence."""
    rules: tuple[RuleExplanation, ...]
    """The rules that relay it."""
    others: tuple[OtherRule, ...]
    """Other rules for its group; at most 20."""
    notes: tuple[str, ...]
    """What else matters for this datagram, one sentence each, such as the rates of outputs (of at
    most 20)."""


def endpoint_text(address: Address, port: int) -> str:
    """An address and port; without the port if that is 0."""
    if not port:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"  # noqa: PLR2004
