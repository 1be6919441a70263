"""The results of the control protocol and its events, as frozen values.

The daemon encodes these values, clients decode them, and the JSON Schema is generated from them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from ..choices import Relayer, Way
from ..explain.results import Explanation
from ..json_codec import Count, Growing, JsonObject
from ..rules.fields import Address, Ttl
from ..rules.host_change import HostChange
from ..rules.shaping import InterfaceRate, Shaping, TrafficClass
from ..stats import Alarm, FlowStats, OutputLoss, RuleFacts, StateCode, Stats
from ..stats.model import NO_FACTS
from ..taps.names import NamedInterface, NamedRule


@dataclass(frozen=True, slots=True)
class Nothing(JsonObject):
    """The result of a method that has nothing to report."""


@dataclass(frozen=True, slots=True)
class Hello(JsonObject):
    """The daemon's greeting."""

    protocol: int
    server: str
    """Program and version, as ``mcr 0.1.0``."""
    pid: int
    """The process that serves the socket; it changes when control is restarted."""
    revision: Count
    """Ascends by one with each change of the rules."""
    ingress: str
    workers: Count
    """The number of worker processes, running or not."""
    sequence: Count
    """The number of the last event."""


@dataclass(frozen=True, slots=True)
class WorkerCount(JsonObject):
    """The number of workers that relay, and of all."""

    running: Count
    of: Count


@dataclass(frozen=True, slots=True)
class Pong(JsonObject):
    """The answer of a daemon that works."""

    revision: Count
    workers: WorkerCount
    uptime_s: float


@dataclass(frozen=True, slots=True)
class RuleOutputInfo(JsonObject):
    """One output of a rule of the daemon."""

    output: str
    """The output as rule text."""
    ttl: Ttl
    """The TTL of copies: 1 to 255, or derived from that of each datagram."""
    parked: str | None
    """Why nothing is sent now; None while all is well."""
    way: Way = "socket"
    """How copies leave now."""
    way_reason: str | None = None
    """Why not by `xdp`, in a word; None if they do, or while no worker has the rule."""
    last_loss: OutputLoss | None = None
    """The last copy that was not sent."""
    last_refused: float | None = None
    """When a host last answered that it has no receiver, as Unix time in seconds."""


def _is_none(value: object) -> bool:
    return value is None


RuleOrigin = Literal["file", "run time", "client"]
"""Where a rule comes from: the configuration file has it; the file has it, but it was changed at
run time; or a client added it."""


@dataclass(frozen=True, slots=True)
class RuleInfo(JsonObject):
    """One rule of the daemon."""

    id: str
    """12 hex digits, the same for the same rule everywhere, but for an edited one: `Rule.id`."""
    name: str | None
    rule: str
    """The canonical text."""
    enabled: bool
    state: str
    """The state of the rule as one sentence, for people."""
    outputs: tuple[RuleOutputInfo, ...]
    state_code: Annotated[StateCode, Growing()] | None = None
    """The state for programs; None in the result of a dry run."""
    facts: RuleFacts = NO_FACTS
    """What `state` and `state_code` follow from."""
    alarms: tuple[Alarm, ...] = ()
    """The expectations of the rule that are not met now."""
    offload: Relayer = "engine"
    """Who relays it now."""
    offload_reason: str | None = None
    """Why not the kernel, in a word; None if it does."""
    offload_detail: str | None = None
    """The same in a sentence, for people; None if there is nothing to say."""
    origin: RuleOrigin = "client"
    """Where it comes from."""
    object: Mapping[str, Any] | None = field(
        default=None, hash=False, metadata={"exclude_if": _is_none}
    )
    """The rule as an object of the protocol, only if no text can express it: the name of one of its
    interfaces contains a character of the grammar."""


@dataclass(frozen=True, slots=True)
class RuleResult(JsonObject):
    """One rule of the daemon, at one revision."""

    revision: Count
    rule: RuleInfo
    time: float = field(default=0.0, compare=False)
    """The Unix time of the answer, in seconds."""
    uptime_s: float = field(default=0.0, compare=False)
    """The time since the control process started, in seconds."""


@dataclass(frozen=True, slots=True)
class RuleList(JsonObject):
    """Rules of the daemon, at one revision."""

    revision: Count
    """The `expected_revision` of a change that builds on these rules."""
    rules: tuple[RuleInfo, ...]
    time: float = field(default=0.0, compare=False)
    """The Unix time of the answer, in seconds."""
    uptime_s: float = field(default=0.0, compare=False)
    """The time since the control process started, in seconds."""

    def __iter__(self) -> Iterator[RuleInfo]:
        """The rules, oldest first."""
        return iter(self.rules)

    def __len__(self) -> int:
        """The number of rules."""
        return len(self.rules)


@dataclass(frozen=True, slots=True)
class ChangeResult(JsonObject):
    """The effect of a change of the rules, or with `dry_run` of one that was not made."""

    revision: Count
    """The revision after the change; with `dry_run` the current one."""
    dry_run: bool
    removed: tuple[str, ...]
    """The ids of the rules that were removed."""
    kept: tuple[str, ...]
    """The ids of requested rules that existed already; their counters continue."""
    changed: tuple[str, ...]
    """The ids of the rules that were enabled, disabled or edited."""
    warnings: tuple[str, ...]
    added: tuple[RuleInfo, ...]


@dataclass(frozen=True, slots=True)
class RuleForm(JsonObject):
    """A rule as it is before or after a change."""

    rule: str
    """The canonical text."""
    enabled: bool


@dataclass(frozen=True, slots=True)
class RuleDifference(JsonObject):
    """What a configuration changes of one rule."""

    id: str
    """That of the rule after it, or of the removed one."""
    name: str | None
    before: RuleForm | None
    """None if it is added."""
    after: RuleForm | None
    """None if it is removed."""


@dataclass(frozen=True, slots=True)
class ConfigurationResult(JsonObject):
    """What a configuration changed, or with `dry_run` would change."""

    revision: Count
    """The revision after the change; with `dry_run` the current one."""
    dry_run: bool
    added: tuple[RuleDifference, ...]
    changed: tuple[RuleDifference, ...]
    """With the same name or the same text as before, and something else about them."""
    removed: tuple[RuleDifference, ...]
    unchanged: Count
    """The rules of the configuration that are as they were."""
    beside: tuple[str, ...]
    """The ids of rules that the configuration does not have, and that stay: clients added them."""
    overruled: tuple[str, ...]
    """The ids of rules that stay enabled, disabled or edited as at run time, against the
    configuration."""
    warnings: tuple[str, ...]
    classes: tuple[str, ...] = ()
    """The names of classes of traffic that are new, changed or removed."""
    interfaces: tuple[str, ...] = ()
    """The names of interfaces with another rate than before, or none any more."""
    staying: tuple[RuleDifference, ...] = ()
    """The rules of `beside` and `overruled`, each the same before and after."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        shaping = self.classes or self.interfaces
        return not (self.added or self.changed or self.removed or shaping)


@dataclass(frozen=True, slots=True)
class ClassInfo(JsonObject):
    """A class of traffic."""

    name: str
    priority: Count
    weight: Count
    rules: Count
    """The number of rules in it."""


@dataclass(frozen=True, slots=True)
class InterfaceRateInfo(JsonObject):
    """The most that all outputs on an interface send together."""

    interface: str
    rate: str
    burst: int | None
    """Bytes or datagrams; None is what the rate gives in 10 ms."""


@dataclass(frozen=True, slots=True)
class ShapingInfo(JsonObject):
    """The classes of traffic and the rates of interfaces; with `dry_run` as they would be."""

    revision: Count
    classes: tuple[ClassInfo, ...]
    """The highest priority first."""
    interfaces: tuple[InterfaceRateInfo, ...]
    warnings: tuple[str, ...] = ()
    """About the change that this answers."""

    def as_shaping(self) -> Shaping:
        """The same as a value."""
        return Shaping.of(
            (TrafficClass(each.name, each.priority, each.weight) for each in self.classes),
            (InterfaceRate(each.interface, each.rate, each.burst) for each in self.interfaces),
        )


@dataclass(frozen=True, slots=True)
class DaemonConfiguration(JsonObject):
    """The settings that a daemon runs with."""

    path: str | None
    """Its configuration file; None without one."""
    settings: Mapping[str, Any]
    """The options that differ from their defaults, as the table `daemon` of a file."""
    revision: Count


@dataclass(frozen=True, slots=True)
class Totals(JsonObject):
    """The sums of the counters of the interfaces and rules in the same reading.

    `wanted`, `sent` and `lost` are those of rules, all others those of interfaces.
    """

    received: Count
    matched: Count
    dropped: Mapping[str, Count]
    wanted: Count
    sent: Count
    lost: Count
    kernel_dropped_frames: Count
    received_bytes: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStats(Stats):
    """One reading of the counters of a daemon, over all workers: all, or those of some rules.

    With some rules, its interfaces are those of their inputs. An interface counts what arrived for
    any rule.
    """

    revision: Count
    totals: Totals
    stale_workers: tuple[int, ...]
    """The workers whose counters cannot be read; their last known counts are included."""


@dataclass(frozen=True, slots=True)
class FlowList(JsonObject):
    """The flows of rules, over all workers, those with the most datagrams first."""

    revision: Count
    counted: bool
    """Whether the daemon counts flows (`mcr serve --flows`)."""
    flows: tuple[FlowStats, ...]
    total: Count
    """The number of known flows; more than those listed if a limit was reached."""
    time: float = field(default=0.0, compare=False)
    """The Unix time of the answer, in seconds."""
    uptime_s: float = field(default=0.0, compare=False)
    """The time since the control process started, in seconds."""


@dataclass(frozen=True, slots=True)
class TapStarted(JsonObject):
    """What the records of a tap refer to. The descriptors of its rings come with the answer."""

    workers: Count
    """The number of rings, one for each worker."""
    interfaces: tuple[NamedInterface, ...]
    rules: tuple[NamedRule, ...]
    """The rules that it takes, as they are now."""


@dataclass(frozen=True, slots=True)
class ExplanationList(JsonObject):
    """What the daemon would do with datagrams, in the order of the request."""

    revision: Count
    explanations: tuple[Explanation, ...]
    time: float = field(default=0.0, compare=False)
    """The Unix time of the answer, in seconds."""
    uptime_s: float = field(default=0.0, compare=False)
    """The time since the control process started, in seconds."""


@dataclass(frozen=True, slots=True)
class WorkerDeath(JsonObject):
    """The last death of a worker process."""

    at: float
    """Unix time, in seconds."""
    cause: str
    outage_ms: int | None
    """The time until its flows continued; None until then, or if control was restarted since."""
    missed_frames: int | None
    """The frames that its sockets could not hold meanwhile; None if unknown (yet)."""


@dataclass(frozen=True, slots=True)
class WorkerInfo(JsonObject):
    """One worker process of the daemon."""

    number: Count
    pid: int | None
    state: str
    """running, restarting, starting, or silent (no sign of life for a second)."""
    cpu: int | None
    """The CPU that it is bound to; None leaves it to the kernel."""
    incarnation: Count
    started_at: float | None
    """Unix time, in seconds."""
    deaths: Count
    last_death: WorkerDeath | None
    restart_in_ms: int | None
    engine: str | None = None
    """How it receives and sends: io_uring, or poll where the kernel refuses that; None before it
    has told."""


@dataclass(frozen=True, slots=True)
class WorkerList(JsonObject):
    """All workers, by their number."""

    workers: tuple[WorkerInfo, ...]
    time: float = field(default=0.0, compare=False)
    """The Unix time of the answer, in seconds."""
    uptime_s: float = field(default=0.0, compare=False)
    """The time since the control process started, in seconds."""


@dataclass(frozen=True, slots=True)
class InterfaceInfo(JsonObject):
    """One network interface that the daemon sees."""

    name: str
    altnames: tuple[str, ...]
    """Its alternative names, each as good as the name (ip-link(8), property)."""
    index: Count
    up: bool
    carrier: bool
    multicast: bool
    loopback: bool
    mtu: Count
    gro: bool
    """Whether generic receive offload is on."""
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class InterfaceList(JsonObject):
    """All interfaces of the daemon's network namespace."""

    interfaces: tuple[InterfaceInfo, ...]


@dataclass(frozen=True, slots=True)
class LogLevels(JsonObject):
    """The least severe records that the daemon logs, from trace to emergency."""

    level: str = field(metadata={"alias": "global"})
    """The level of the facilities that have none of their own."""
    facilities: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class HostChanges(JsonObject):
    """The host names that have other addresses now, and those that do not resolve."""

    changes: tuple[HostChange, ...]
    revision: Count


@dataclass(frozen=True, slots=True)
class EventPosition(JsonObject):
    """The position in the stream of events at which a subscription begins."""

    sequence: Count
    """The number of the last event."""
    oldest: Count
    """The number of the first available event, or of the next one if there is none."""
    missed: Count
    """The number of requested events that are no longer available."""
