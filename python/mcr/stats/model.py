"""Counters of interfaces, rules and outputs, as frozen values.

Rules, outputs and addresses are text here. All counts are datagrams since the rule, output or
interface was added, unless the name has another unit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Annotated, Any

from ..choices import Relayer, Way
from ..json_codec import Count, Growing, JsonObject, decode_object
from .alarm import Alarm
from .latency import LatencyStats
from .merge import MergeStats
from .rule_state import StateCode
from .sequence import SequenceStats


@dataclass(frozen=True, slots=True)
class Rate(JsonObject):
    """What was counted per second: datagrams, bits of their payloads, and drops."""

    pps: float
    bits_per_s: float
    dropped_pps: float


@dataclass(frozen=True, slots=True)
class InterfaceStats(JsonObject):
    """The counters of one interface: `received = matched + sum(dropped)`.

    `received` counts the datagrams that the kernel handed over (a super-frame counts its
    segments, a frame that is not UDP counts one); `kernel_dropped_frames` counts the frames that
    it could not hand over because the receive buffer was full (the sockets' drop counters,
    SO_MEMINFO, or PACKET_STATISTICS of a packet ring); `buffer_waits` counts how often receiving
    paused because every buffer was in use. `received_bytes` are those of the UDP payloads of what
    could be read. `error` is the errno name of the error that ended reception, such as ENETDOWN;
    None while all is well. `rate_1s` and `rate_10s` are the rates of `received` and `dropped` over
    the last one or ten seconds, or since the start; None at first.
    """

    name: str
    ingress: str
    received: Count
    matched: Count
    kernel_dropped_frames: Count
    buffer_waits: Count
    error: str | None
    dropped: Mapping[str, Count]
    received_bytes: Count = 0
    rate_1s: Rate | None = field(default=None, compare=False)
    rate_10s: Rate | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class OutputLoss(JsonObject):
    """The last loss of an output: `at` (Unix time in seconds), and why.

    `reason` is one of `dropped`; `errno` is the errno name if it is `send_error`, else None.
    """

    at: float
    reason: str
    errno: str | None


@dataclass(frozen=True, slots=True)
class OutputStats(JsonObject):
    """The counters of one output: `wanted = sent + sum(dropped) + pending`.

    `output` is the output as rule text, `address` the address that copies are sent to, which
    distinguishes the outputs of one host name. `parked` is the reason why nothing is sent now, such
    as "eth1 is down", or None. `way` is how copies leave now, `way_reason` a word for why that is
    not `xdp`, or None. `refused` counts the answers that a unicast receiver's port or host is
    unreachable; they cost no datagram. `errors` splits `dropped["send_error"]` by errno name.
    `last_loss` and `last_refused` (Unix time in seconds) are the last of each, or None.
    `rate_1s` and `rate_10s` are the rates of `sent` and `dropped`, as those of an interface.
    """

    output: str
    address: str
    wanted: Count
    sent: Count
    sent_bytes: Count
    pending: Count
    refused: Count
    dropped: Mapping[str, Count]
    errors: Mapping[str, Count]
    parked: str | None = None
    way: Way = "socket"
    way_reason: str | None = None
    last_loss: OutputLoss | None = field(default=None, compare=False)
    last_refused: float | None = field(default=None, compare=False)
    rate_1s: Rate | None = field(default=None, compare=False)
    rate_10s: Rate | None = field(default=None, compare=False)

    @property
    def lost(self) -> int:
        """The copies that were not sent, for any reason."""
        return sum(self.dropped.values())


@dataclass(frozen=True, slots=True)
class RuleFacts(JsonObject):
    """What the state of a rule follows from. Times are Unix times in seconds, right to 10 ms.

    `last_seen` is when the last datagram matched, `silent_s` how many seconds ago that was,
    `last_source` the address of its sender; None if none has matched. `obstacle` is why the input
    cannot receive, such as "eth0 is down", or None. `shadowed_by` is the id of the more specific
    rule that matches what this one would match, or None.

    `unmatched` counts the datagrams for the input's addresses on its interface that no rule
    matched, `unmatched_at` is when the last of them came; `unmatched_port` is the last port without
    a rule among them, `unmatched_source` the last sender that a source list rejected, or None.
    """

    last_seen: float | None = None
    silent_s: float | None = None
    last_source: str | None = None
    obstacle: str | None = None
    shadowed_by: str | None = None
    unmatched: Count = 0
    unmatched_at: float | None = None
    unmatched_port: int | None = None
    unmatched_source: str | None = None


NO_FACTS = RuleFacts()
"""Of a rule of which nothing is known."""


@dataclass(frozen=True, slots=True)
class RuleStats(JsonObject):
    """The counters of one rule.

    `state` describes its state in one sentence, for people. `state_code` is the state for programs
    (docs/observability.md), `facts` what both follow from.
    `rate_1s` and `rate_10s` are the rates of `matched` and of what all outputs dropped, as those of
    an interface. `flows_evicted` counts the flows of it that gave way to others where flows are
    counted, `looped` the payloads of those watched that came back to it, as in a loop. `alarms` are
    the expectations of it (`expect`) that are not met now, and loops. `offload` is who
    relays it now, the engine or the kernel, `offload_reason` a word for why that is not the
    kernel, or None, and `offload_detail` the same in a sentence, for people, if there is something
    to say. `latency` is None if it is not measured. `merge` is what each of several inputs has
    delivered, or None.
    """

    id: str
    name: str | None
    rule: str
    state: str
    matched: Count
    matched_bytes: Count
    outputs: tuple[OutputStats, ...]
    state_code: Annotated[StateCode, Growing()] | None = None
    facts: RuleFacts = field(default=NO_FACTS, compare=False)
    flows_evicted: Count = 0
    looped: Count = 0
    alarms: tuple[Alarm, ...] = ()
    rate_1s: Rate | None = field(default=None, compare=False)
    rate_10s: Rate | None = field(default=None, compare=False)
    offload: Relayer = "engine"
    offload_reason: str | None = None
    offload_detail: str | None = None
    latency: LatencyStats | None = field(default=None, compare=False)
    merge: MergeStats | None = None

    @property
    def lost(self) -> int:
        """The copies that were not sent, over all outputs."""
        return sum(output.lost for output in self.outputs)


@dataclass(frozen=True, slots=True)
class ClassStats(JsonObject):
    """The counters of one class: the sums over the outputs of the rules in it.

    `class_limited` counts the copies that the rate of an interface left no room for, `lost` those
    that were not sent for any reason. Of a rule that is removed nothing is counted any more.
    """

    name: str
    priority: Count
    weight: Count
    rules: Count
    wanted: Count
    sent: Count
    sent_bytes: Count
    lost: Count
    class_limited: Count


@dataclass(frozen=True, slots=True)
class FlowStats(JsonObject):
    """What one sender sent to one group and port of a rule.

    `rule` is the rule's id. `first_seen` and `last_seen` are Unix times in seconds, right to 10 ms;
    `ttl_min`, `ttl_max` and `dscps` what its datagrams carried. `rate_1s` and `rate_10s` are those
    of `datagrams` and `bytes`, as those of an interface.
    """

    rule: str
    source: str
    source_port: Count
    group: str
    port: Count
    datagrams: Count
    bytes: Count
    first_seen: float
    last_seen: float
    ttl_min: Count
    ttl_max: Count
    dscps: tuple[Count, ...]
    sequence: SequenceStats | None = None
    """What the numbers in its datagrams say; None if they are not read."""
    rate_1s: Rate | None = field(default=None, compare=False)
    rate_10s: Rate | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class RuleRate:
    """The rates of a rule: datagrams, payload bits and lost copies per second."""

    matched_pps: float
    matched_bits_per_s: float
    lost_pps: float


@dataclass(frozen=True, slots=True)
class Stats(JsonObject):
    """One consistent reading of all counters of a relay.

    `taken_at_s` is `time.monotonic()` when they were read; JSON does not hold it. `time` is the
    Unix time then, `uptime_s` the seconds since the relay (of a daemon: its control process)
    started, 0 before. Two readings are equal when their counts and states are. `as_dict` returns
    the object that `mcr relay --json` prints.
    """

    interfaces: tuple[InterfaceStats, ...]
    rules: tuple[RuleStats, ...]
    time: float = field(default=0.0, compare=False, kw_only=True)
    uptime_s: float = field(default=0.0, compare=False, kw_only=True)
    classes: tuple[ClassStats, ...] = field(default=(), kw_only=True)
    """The highest priority first; empty while there is no class but the default, and no interface
    has a rate."""
    taken_at_s: float = field(
        default_factory=monotonic, compare=False, kw_only=True, metadata={"exclude": True}
    )

    @classmethod
    def from_dict(cls, given: object) -> "Stats":
        """Read the output of `as_dict` or `mcr relay --json`; `taken_at_s` is the current time.

        Raises:
            ValueError: a field is missing or of another type; the text names it by its path.
        """
        return decode_object(Stats, given)

    def rates_since(self, before: "Stats") -> dict[str, RuleRate]:
        """Return the rate of each rule, by its id, between an earlier reading and this one.

        A rule that the earlier reading lacks, or counts higher, started from 0 in between. If no
        time has passed between the readings, every rate is 0.
        """
        seconds = self.taken_at_s - before.taken_at_s
        earlier = {rule.id: rule for rule in before.rules}
        return {rule.id: _rate(earlier.get(rule.id), rule, seconds) for rule in self.rules}

    def to_dicts(self) -> dict[str, list[dict[str, Any]]]:
        """Return flat rows for tables: those of `interfaces`, `rules` and `outputs`.

        Each row has `time`; a row of an output has the id and name of its rule. What is nested has
        the names of its members, such as `dropped_output_full` and `rate_1s_pps`. Lists are left
        out, but for the codes of a rule's alarms, joined by `+`.
        """
        members = self.as_dict()
        rows: dict[str, list[dict[str, Any]]] = {"interfaces": [], "rules": [], "outputs": []}
        rows["interfaces"] += ({"time": self.time} | _flat(each) for each in members["interfaces"])
        for rule in members["rules"]:
            codes = "+".join(alarm["code"] for alarm in rule["alarms"])
            rows["rules"].append({"time": self.time} | _flat(rule) | {"alarms": codes})
            owner = {"time": self.time, "rule_id": rule["id"], "rule_name": rule["name"]}
            rows["outputs"] += (owner | _flat(output) for output in rule["outputs"])
        return rows

    def imbalances(self) -> tuple[str, ...]:
        """Return one sentence for each balance that does not hold; empty in a correct relay."""
        return tuple(_imbalances(self))


def _rate(before: RuleStats | None, after: RuleStats, seconds: float) -> RuleRate:
    if seconds <= 0:
        return RuleRate(0.0, 0.0, 0.0)
    restarted = before is None or before.matched > after.matched or before.lost > after.lost
    matched, matched_bytes, lost = (
        (0, 0, 0)
        if before is None or restarted
        else (before.matched, before.matched_bytes, before.lost)
    )
    return RuleRate(
        matched_pps=(after.matched - matched) / seconds,
        matched_bits_per_s=8 * (after.matched_bytes - matched_bytes) / seconds,
        lost_pps=(after.lost - lost) / seconds,
    )


def _flat(members: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in members.items():
        if isinstance(value, dict):
            row |= _flat(value, f"{prefix}{name}_")
        elif not isinstance(value, list):
            row[f"{prefix}{name}"] = value
    return row


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
