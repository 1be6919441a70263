"""Counters of interfaces, rules and outputs, as frozen values.

Owns the shape of the numbers; knows neither the engine that counts nor the rules themselves: rules,
outputs and addresses are text here. All counts are datagrams since the rule, output or interface
was added, unless the name has another unit.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ..json_reader import Shape


@dataclass(frozen=True, slots=True)
class InterfaceStats:
    """What arrived on one interface: `received = matched + sum(dropped)`.

    `received` counts the datagrams that the kernel handed over (a super-frame counts its
    segments, a frame that is not UDP counts one); `kernel_dropped_frames` counts the frames that
    it could not hand over because the receive buffer was full (the sockets' drop counters,
    SO_MEMINFO, or PACKET_STATISTICS of a packet ring); `buffer_waits` how often receiving paused
    because every buffer was in use. `error` is the errno name of what receiving ended with, such
    as ENETDOWN; None while all is well.
    """

    name: str
    ingress: str
    received: int
    matched: int
    kernel_dropped_frames: int
    buffer_waits: int
    error: str | None
    dropped: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON holds them."""
        return {
            "name": self.name,
            "ingress": self.ingress,
            "received": self.received,
            "matched": self.matched,
            "kernel_dropped_frames": self.kernel_dropped_frames,
            "buffer_waits": self.buffer_waits,
            "error": self.error,
            "dropped": dict(self.dropped),
        }

    @classmethod
    def from_shape(cls, given: Shape) -> Self:
        """Read what `as_dict` has written.

        Raises:
            ShapeError: a field is missing, or of another type.
        """
        return cls(
            name=given.get("name", str),
            ingress=given.get("ingress", str),
            received=given.count("received"),
            matched=given.count("matched"),
            kernel_dropped_frames=given.count("kernel_dropped_frames"),
            buffer_waits=given.count("buffer_waits"),
            error=given.maybe("error", str),
            dropped=given.counts("dropped"),
        )


@dataclass(frozen=True, slots=True)
class OutputStats:
    """What one output was asked to send: `wanted = sent + sum(dropped) + pending`.

    `output` is the output as rule text, `address` the address that copies are sent to, which tells
    the outputs of one host name apart. `parked` says why nothing is sent now, such as "eth1 is
    down"; None while all is well. `refused` counts the answers that a unicast receiver's
    port or host is unreachable; they cost no datagram. `errors` splits `dropped["send_error"]` by
    errno name.
    """

    output: str
    wanted: int
    sent: int
    sent_bytes: int
    pending: int
    refused: int
    dropped: Mapping[str, int]
    errors: Mapping[str, int]
    parked: str | None = None
    address: str = ""

    @property
    def lost(self) -> int:
        """The datagrams that this output was asked to send and did not."""
        return sum(self.dropped.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON holds them."""
        return {
            "output": self.output,
            "address": self.address,
            "wanted": self.wanted,
            "sent": self.sent,
            "sent_bytes": self.sent_bytes,
            "pending": self.pending,
            "refused": self.refused,
            "dropped": dict(self.dropped),
            "errors": dict(self.errors),
            "parked": self.parked,
        }

    @classmethod
    def from_shape(cls, given: Shape) -> Self:
        """Read what `as_dict` has written.

        Raises:
            ShapeError: a field is missing, or of another type.
        """
        return cls(
            output=given.get("output", str),
            address=given.get("address", str),
            wanted=given.count("wanted"),
            sent=given.count("sent"),
            sent_bytes=given.count("sent_bytes"),
            pending=given.count("pending"),
            refused=given.count("refused"),
            dropped=given.counts("dropped"),
            errors=given.counts("errors"),
            parked=given.maybe("parked", str),
        )


@dataclass(frozen=True, slots=True)
class RuleStats:
    """What one rule relayed; `state` is one sentence that says how it is doing."""

    id: str
    name: str | None
    rule: str
    state: str
    matched: int
    matched_bytes: int
    outputs: tuple[OutputStats, ...]

    @property
    def lost(self) -> int:
        """The copies that were not sent, over all outputs."""
        return sum(output.lost for output in self.outputs)

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON holds them."""
        return {
            "id": self.id,
            "name": self.name,
            "rule": self.rule,
            "state": self.state,
            "matched": self.matched,
            "matched_bytes": self.matched_bytes,
            "outputs": [output.as_dict() for output in self.outputs],
        }

    @classmethod
    def from_shape(cls, given: Shape) -> Self:
        """Read what `as_dict` has written.

        Raises:
            ShapeError: a field is missing, or of another type.
        """
        return cls(
            id=given.get("id", str),
            name=given.maybe("name", str),
            rule=given.get("rule", str),
            state=given.get("state", str),
            matched=given.count("matched"),
            matched_bytes=given.count("matched_bytes"),
            outputs=tuple(map(OutputStats.from_shape, given.objects("outputs"))),
        )


@dataclass(frozen=True, slots=True)
class RuleRate:
    """How fast a rule runs, in datagrams, payload bits and lost copies a second."""

    matched_pps: float
    matched_bits_per_s: float
    lost_pps: float


@dataclass(frozen=True, slots=True)
class Stats:
    """One consistent reading of all counters of a relay.

    `taken_at_s` is `time.monotonic()` when they were read. Two readings are equal when their
    counts are.
    """

    interfaces: tuple[InterfaceStats, ...]
    rules: tuple[RuleStats, ...]
    taken_at_s: float = field(default_factory=time.monotonic, compare=False, kw_only=True)

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `mcr relay --json` prints."""
        return {
            "interfaces": [interface.as_dict() for interface in self.interfaces],
            "rules": [rule.as_dict() for rule in self.rules],
        }

    @classmethod
    def from_dict(cls, given: object) -> "Stats":
        """Read what `as_dict` has written, such as a report of `mcr relay --json`; taken now.

        Raises:
            ValueError: a field is missing or of another type; the text names it by its path.
        """
        shape = Shape(given)
        return Stats(
            interfaces=tuple(map(InterfaceStats.from_shape, shape.objects("interfaces"))),
            rules=tuple(map(RuleStats.from_shape, shape.objects("rules"))),
        )

    def rates_since(self, before: "Stats") -> dict[str, RuleRate]:
        """Return the rate of each rule, by its id, between an earlier reading and this one.

        A rule that the earlier reading does not have, or whose counts it has higher, started from
        zero in between. Without time between the two every rate is 0.
        """
        seconds = self.taken_at_s - before.taken_at_s
        earlier = {rule.id: rule for rule in before.rules}
        return {rule.id: _rate(earlier.get(rule.id), rule, seconds) for rule in self.rules}

    def imbalances(self) -> tuple[str, ...]:
        """Return one sentence for each balance that does not hold; empty in a correct relay."""
        return tuple(_imbalances(self))


def _rate(before: RuleStats | None, after: RuleStats, seconds: float) -> RuleRate:
    if seconds <= 0:
        return RuleRate(0.0, 0.0, 0.0)
    began_anew = before is None or before.matched > after.matched or before.lost > after.lost
    matched, matched_bytes, lost = (
        (0, 0, 0)
        if before is None or began_anew
        else (before.matched, before.matched_bytes, before.lost)
    )
    return RuleRate(
        matched_pps=(after.matched - matched) / seconds,
        matched_bits_per_s=8 * (after.matched_bytes - matched_bytes) / seconds,
        lost_pps=(after.lost - lost) / seconds,
    )


def _imbalances(stats: Stats) -> Iterator[str]:
    for interface in stats.interfaces:
        accounted = interface.matched + sum(interface.dropped.values())
        if interface.received != accounted:
            yield f"{interface.name}: received {interface.received}, accounted for {accounted}"
    for rule in stats.rules:
        for output in rule.outputs:
            accounted = output.sent + output.lost + output.pending
            if output.wanted != accounted:
                yield f"{output.output}: wanted {output.wanted}, accounted for {accounted}"
            errors, failed = sum(output.errors.values()), output.dropped.get("send_error", 0)
            if errors != failed:
                yield f"{output.output}: {failed} send errors, {errors} by errno"
