"""What clients get: the results of every method, and events.

Owns the shape of answers only. They are plain dictionaries, since thousands of them are made.
"""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from ....protocol.constants import EventKind, Facility, Level

Counts = dict[str, int]


class Nothing(TypedDict):
    """There is nothing to say."""


class HelloResult(TypedDict):
    """Who answers."""

    protocol: int
    server: str
    pid: int
    revision: int
    ingress: str
    workers: int
    sequence: int


class RunningWorkers(TypedDict):
    """How many workers relay, of how many that should."""

    running: int
    of: int


class PingResult(TypedDict):
    """That the daemon is well."""

    revision: int
    workers: RunningWorkers
    uptime_s: float


class RuleOutputInfo(TypedDict):
    """One output of a rule."""

    output: str
    ttl: int | str
    parked: str | None


class RuleInfo(TypedDict):
    """A rule and how it is doing."""

    id: str
    name: str | None
    rule: str
    object: NotRequired[dict[str, Any]]
    """The rule as requests take it, only where its text cannot be read back."""
    enabled: bool
    state: str
    outputs: list[RuleOutputInfo]


class RulesResult(TypedDict):
    """Rules in their order."""

    revision: int
    rules: list[RuleInfo]


class RuleResult(TypedDict):
    """One rule."""

    revision: int
    rule: RuleInfo


class ChangeResult(TypedDict):
    """What a change has changed, or would have."""

    revision: int
    dry_run: bool
    added: list[RuleInfo]
    removed: list[str]
    kept: list[str]
    changed: list[str]
    warnings: list[str]


class InterfaceCounts(TypedDict):
    """As `mcr.InterfaceStats.as_dict`."""

    name: str
    ingress: str
    received: int
    matched: int
    kernel_dropped_frames: int
    buffer_waits: int
    error: str | None
    dropped: Counts


class OutputCounts(TypedDict):
    """As `mcr.OutputStats.as_dict`."""

    output: str
    address: str
    wanted: int
    sent: int
    sent_bytes: int
    pending: int
    refused: int
    dropped: Counts
    errors: Counts
    parked: str | None


class RuleCounts(TypedDict):
    """As `mcr.RuleStats.as_dict`."""

    id: str
    name: str | None
    rule: str
    state: str
    matched: int
    matched_bytes: int
    outputs: list[OutputCounts]


class Totals(TypedDict):
    """The sums over all interfaces, and over all outputs of the rules."""

    received: int
    matched: int
    dropped: Counts
    wanted: int
    sent: int
    lost: int
    kernel_dropped_frames: int


class StatsResult(TypedDict):
    """All counters; a worker that did not answer is in with what it last said."""

    interfaces: list[InterfaceCounts]
    rules: list[RuleCounts]
    revision: int
    totals: Totals
    stale_workers: list[int]


class WorkerDeath(TypedDict):
    """How a worker ended, and what that cost."""

    at: float
    cause: str
    outage_ms: int | None
    missed_frames: int | None


class WorkerInfo(TypedDict):
    """One worker process."""

    number: int
    pid: int | None
    state: str
    cpu: int | None
    incarnation: int
    started_at: float | None
    deaths: int
    last_death: WorkerDeath | None
    restart_in_ms: int | None


class WorkersResult(TypedDict):
    """All workers, by their number."""

    workers: list[WorkerInfo]


class InterfaceInfo(TypedDict):
    """One network interface of the daemon's namespace."""

    name: str
    altnames: list[str]
    index: int
    up: bool
    carrier: bool
    multicast: bool
    loopback: bool
    mtu: int
    gro: bool
    addresses: list[str]


class InterfacesResult(TypedDict):
    """All interfaces."""

    interfaces: list[InterfaceInfo]


# In the functional form, since `global` is a word of Python's own.
LogsResult = TypedDict("LogsResult", {"global": Level, "facilities": dict[Facility, Level | None]})


class SubscribeResult(TypedDict):
    """Where the stream of events stands."""

    sequence: int
    oldest: int
    missed: int


class HostChangeInfo(TypedDict):
    """What looking a host name up again has brought."""

    host: str
    before: list[str]
    after: list[str]
    error: str | None


class HostsResult(TypedDict):
    """The host names that have other addresses now, and those that do not resolve."""

    changes: list[HostChangeInfo]
    revision: int


class Event(TypedDict):
    """One event; which of the last members it has is decided by its kind."""

    sequence: int
    at: float
    kind: EventKind | Literal["gap"]
    event: str
    text: str
    id: NotRequired[str]
    name: NotRequired[str | None]
    output: NotRequired[int]
    number: NotRequired[int]
    pid: NotRequired[int | None]
    cause: NotRequired[str]
    interface: NotRequired[str]
    index: NotRequired[int]
    level: NotRequired[Level]
    facility: NotRequired[Facility]
    missed: NotRequired[int]
