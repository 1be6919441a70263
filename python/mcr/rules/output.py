"""An `Output` of a rule as a frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from . import fields, grammar, rates
from .fields import Address, Keep, Network, ProblemCollector, Ttl

_SWITCH = {None: None, True: "on", False: "off"}
_OF_RATES = frozenset({"rate", "burst", "queue", "pace"})
_DEFAULTS: Mapping[str, object] = {
    "interface": None,
    "ttl": None,
    "dscp": 0,
    "source": None,
    "source_port": None,
    "loop": None,
    "priority": None,
    "rate": None,
    "burst": None,
    "queue": None,
    "pace": False,
    "_text": None,
}


@dataclass(frozen=True, slots=True, init=False)
class Output:
    """A destination of a rule's datagrams, and the options of its copies."""

    address: Address | Network | str
    """A group, a block of groups, a host's or a broadcast address, or a host name, which is
    resolved. In a block each datagram goes to the group at the place of its own group."""
    port: int | range
    """1 to 65535, or as many as the input has: then each datagram goes to the port at its place."""
    interface: str | None
    """Required for a group and 255.255.255.255; for a host, None leaves the choice to routing."""
    ttl: Ttl | None
    """1 to 255, "keep" or "decrement" (one less than the datagram's); None: `effective_ttl`."""
    dscp: int | Keep
    """0 to 63, or "keep"; the ECN bits of a copy are 0."""
    source: Address | Keep | None
    """An address of this host to send from, or "keep" for the original sender's (CAP_NET_RAW or
    CAP_NET_ADMIN); None lets the kernel choose."""
    source_port: int | Keep | None
    """1 to 65535, or "keep" for the original sender's (CAP_NET_RAW; each copy is sent alone);
    None uses an ephemeral one, stable for the output's life."""
    loop: bool | None
    """Whether receivers on this host get copies to a group too (IP_MULTICAST_LOOP); None: yes,
    except on the ingress "udp" for copies to the rule's own group and port."""
    priority: int | None
    """SO_PRIORITY, 0 to 6; None leaves it to the kernel."""
    rate: str | None
    """Bits of payload or datagrams a second, such as "50mbit" or "20kpps"; None: any rate."""
    burst: int | None
    """What a rate sends at once after a rest: bytes or datagrams; None: that of 10 ms or more."""
    queue: str | None
    """How long what exceeds the rate may wait, such as "20ms"; None drops it at once."""
    pace: bool
    """Whether copies leave one by one, evenly spaced at the rate; they wait up to 20 ms, or as long
    as `queue` says."""
    _text: str | None = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        address: Address | Network | str,
        port: int | range,
        *,
        interface: str | None = None,
        ttl: Ttl | None = None,
        dscp: int | Keep = 0,
        source: Address | str | None = None,
        source_port: int | Keep | None = None,
        loop: bool | None = None,
        priority: int | None = None,
        rate: str | None = None,
        burst: int | None = None,
        queue: str | None = None,
        pace: bool | None = None,
    ) -> None:
        """Parses every field.

        Raises:
            RuleError: with a problem for each invalid field.
        """
        check = ProblemCollector()
        values = {
            "address": check.field("address", fields.destination, address),
            "port": check.field("port", fields.ports, port),
            "interface": check.optional("interface", fields.interface, interface),
            "ttl": check.optional("ttl", fields.output_ttl, ttl),
            "dscp": check.field("dscp", fields.output_dscp, dscp),
            "source": check.optional("source", fields.output_source, source),
            "source_port": check.optional("source_port", fields.output_source_port, source_port),
            "loop": check.optional("loop", fields.loop, loop),
            "priority": check.optional("priority", fields.priority, priority),
            "rate": check.optional("rate", rates.rate, rate),
            "burst": check.optional("burst", partial(rates.burst_of, rate), burst),
            "queue": check.optional("queue", partial(rates.queue_of, rate), queue),
            "pace": check.field("pace", partial(rates.pace_of, rate, burst), pace or False),
        }
        check.same_family("source", values["source"], values["address"])
        check.raise_if_any()
        fill(self, values | {"_text": None})

    @classmethod
    def parse(cls, text: str) -> "Output":
        """The output written as ``239.2.0.1%eth1:6001,ttl=8``.

        Raises:
            RuleError: with all problems of the text.
        """
        return checked_output(grammar.parse_output(text))

    @property
    def effective_ttl(self) -> Ttl:
        """The TTL that copies leave with; a host name counts as unicast until it is resolved.

        "keep" and "decrement" are returned as they are, since they depend on the datagram.
        """
        return self.ttl if self.ttl is not None else fields.default_ttl(self.address)

    def __str__(self) -> str:
        """The canonical text."""
        if self._text is None:  # once: the ids of all rules with this output are made of it
            object.__setattr__(self, "_text", self._format())
        return str(self._text)

    def _format(self) -> str:
        options = [
            ("ttl", self.ttl),
            ("dscp", self.dscp or None),
            ("source", self.source),
            ("sport", self.source_port),
            ("loop", _SWITCH[self.loop]),
            ("priority", self.priority),
            ("rate", self.rate),
            ("burst", self.burst),
            ("queue", self.queue),
            ("pace", "on" if self.pace else None),
        ]
        return grammar.format_endpoint(self.address, self.interface, self.port, options=options)


def checked_output(arguments: grammar.Arguments) -> Output:
    """The output with arguments that the grammar has read, and so checked each by itself.

    Raises:
        RuleError: the options of a rate do not fit each other.
    """
    if not _OF_RATES.isdisjoint(arguments):
        return Output(**arguments)
    output = object.__new__(Output)
    fill(output, {**_DEFAULTS, **arguments})
    return output


def fill(value: object, slots: Mapping[str, object]) -> None:
    """Sets the fields of a frozen value during construction."""
    for name, slot in slots.items():
        object.__setattr__(value, name, slot)
