"""What a daemon answers of itself, its host and its traffic, as frozen values.

Owns how each is read from the protocol's objects; knows neither sockets nor methods.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from typing import Any, Self

from ..json_reader import Shape, ShapeError
from ..rules.fields import Address
from ..rules.hostnames import HostChange
from ..stats import InterfaceStats, RuleStats, Stats


@dataclass(frozen=True, slots=True)
class Hello:
    """Who answers: the daemon at the other end of the connection."""

    protocol: int
    server: str
    """Program and version, as ``mcr 0.1.0``."""
    pid: int
    """The process that serves the socket; another one after it had to be restarted."""
    revision: int
    """Grows by one with each change of the rules."""
    ingress: str
    workers: int
    """How many worker processes there shall be."""
    sequence: int
    """The number of the last event."""

    @classmethod
    def read(cls, given: Shape) -> Self:
        """Read the result of ``hello``; ShapeError if it is none."""
        return cls(
            protocol=given.get("protocol", int),
            server=given.get("server", str),
            pid=given.get("pid", int),
            revision=given.count("revision"),
            ingress=given.get("ingress", str),
            workers=given.count("workers"),
            sequence=given.count("sequence"),
        )


@dataclass(frozen=True, slots=True)
class Pong:
    """A daemon that is well enough to answer."""

    revision: int
    workers_running: int
    workers: int
    uptime_s: float

    @classmethod
    def read(cls, given: Shape) -> Self:
        """Read the result of ``ping``; ShapeError if it is none."""
        workers = given.nested("workers")
        return cls(
            revision=given.count("revision"),
            workers_running=workers.count("running"),
            workers=workers.count("of"),
            uptime_s=given.get("uptime_s", float),
        )


@dataclass(frozen=True, slots=True)
class WorkerDeath:
    """How a worker process ended the last time."""

    at: float
    """Unix time, in seconds."""
    cause: str
    outage_ms: float | None
    """How long its flows stood still; None while they do, or where control was restarted since."""
    missed_frames: int | None
    """The frames that its sockets could not keep meanwhile; None where nobody knows (yet)."""

    @classmethod
    def read(cls, given: Shape) -> Self:
        """Read a death; ShapeError if it is none."""
        return cls(
            at=given.get("at", float),
            cause=given.get("cause", str),
            outage_ms=given.maybe("outage_ms", float),
            missed_frames=given.maybe("missed_frames", int),
        )


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One worker process of the daemon."""

    number: int
    pid: int | None
    state: str
    """running, restarting, starting, or silent (it does not answer)."""
    cpu: int | None
    """The CPU that it is bound to; None leaves it to the kernel."""
    incarnation: int
    started_at: float | None
    """Unix time, in seconds."""
    deaths: int
    last_death: WorkerDeath | None
    restart_in_ms: float | None

    @classmethod
    def read(cls, given: Shape) -> Self:
        """Read a worker; ShapeError if it is none."""
        died = given.has("last_death")
        return cls(
            number=given.count("number"),
            pid=given.maybe("pid", int),
            state=given.get("state", str),
            cpu=given.maybe("cpu", int),
            incarnation=given.count("incarnation"),
            started_at=given.maybe("started_at", float),
            deaths=given.count("deaths"),
            last_death=WorkerDeath.read(given.nested("last_death")) if died else None,
            restart_in_ms=given.maybe("restart_in_ms", float),
        )

    @classmethod
    def read_all(cls, given: Shape) -> tuple[Self, ...]:
        """Read the result of ``workers.list``; ShapeError if it is none."""
        return tuple(map(cls.read, given.objects("workers")))


@dataclass(frozen=True, slots=True)
class InterfaceInfo:
    """One network interface that the daemon sees."""

    name: str
    altnames: tuple[str, ...]
    """Its alternative names, each as good as the name (ip-link(8), property)."""
    index: int
    up: bool
    carrier: bool
    multicast: bool
    loopback: bool
    mtu: int
    gro: bool
    """Whether generic receive offload is on."""
    addresses: tuple[Address, ...]

    @classmethod
    def read(cls, given: Shape) -> Self:
        """Read an interface; ShapeError if it is none."""
        return cls(
            name=given.get("name", str),
            altnames=given.array("altnames", str),
            index=given.count("index"),
            up=given.get("up", bool),
            carrier=given.get("carrier", bool),
            multicast=given.get("multicast", bool),
            loopback=given.get("loopback", bool),
            mtu=given.count("mtu"),
            gro=given.get("gro", bool),
            addresses=_addresses(given, "addresses"),
        )

    @classmethod
    def read_all(cls, given: Shape) -> tuple[Self, ...]:
        """Read the result of ``interfaces.list``; ShapeError if it is none."""
        return tuple(map(cls.read, given.objects("interfaces")))


@dataclass(frozen=True, slots=True)
class LogLevels:
    """What the daemon writes to its log: debug, info, warning or error, and what is worse."""

    level: str
    """For all facilities that have no level of their own."""
    facilities: Mapping[str, str | None]

    @classmethod
    def read(cls, given: Shape) -> Self:
        """Read the result of ``logs.get``; ShapeError if it is none."""
        facilities = given.nested("facilities")
        levels = {name: facilities.maybe(name, str) for name in facilities.plain()}
        return cls(level=given.get("global", str), facilities=levels)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in the daemon, or a gap in what was heard of it."""

    sequence: int
    """Ascending by one over all kinds; of a gap, of the last one that was missed."""
    at: float
    """Unix time, in seconds."""
    kind: str
    """rule, worker, interface or log; of a gap, gap."""
    event: str
    """What happened, such as added or died; gap where events were missed."""
    text: str
    """One sentence."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What else events of this kind say, such as id, number or interface."""

    @property
    def missed(self) -> int | None:
        """Of a gap, how many events of all kinds were missed at most; None where nobody knows."""
        count = self.fields.get("missed")
        return count if type(count) is int else None

    def as_dict(self) -> dict[str, Any]:
        """Return the event as the protocol has it."""
        own = ("sequence", "at", "kind", "event", "text")
        return {**{name: getattr(self, name) for name in own}, **self.fields}

    @classmethod
    def read(cls, given: Shape) -> Self:
        """Read an event; ShapeError if it is none."""
        own = {each.name for each in fields(cls)} - {"fields"}
        return cls(
            sequence=given.count("sequence"),
            at=given.get("at", float),
            kind=given.get("kind", str),
            event=given.get("event", str),
            text=given.get("text", str),
            fields={name: value for name, value in given.plain().items() if name not in own},
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """The counters of all interfaces, and of the rules that were asked for, added up.

    `wanted`, `sent` and `lost` are those of rules, all others those of interfaces.
    """

    received: int
    matched: int
    dropped: Mapping[str, int]
    wanted: int
    sent: int
    lost: int
    kernel_dropped_frames: int

    @classmethod
    def read(cls, given: Shape) -> Self:
        """Read the sums; ShapeError if there are none."""
        sums = {each.name: given.count(each.name) for each in fields(cls) if each.type is int}
        return cls(dropped=given.counts("dropped"), **sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStats(Stats):
    """One reading of all counters of a daemon, over all workers."""

    revision: int
    totals: Totals
    stale_workers: tuple[int, ...]
    """The workers that did not answer; their last known counts are in."""

    @classmethod
    def read(cls, given: Shape) -> Self:
        """Read the result of ``stats``; ShapeError if it is none."""
        return cls(
            interfaces=tuple(map(InterfaceStats.from_shape, given.objects("interfaces"))),
            rules=tuple(map(RuleStats.from_shape, given.objects("rules"))),
            revision=given.count("revision"),
            totals=Totals.read(given.nested("totals")),
            stale_workers=given.array("stale_workers", int),
        )


def host_changes(given: Shape) -> tuple[HostChange, ...]:
    """Read the result of ``hosts.resolve``; ShapeError if it is none."""
    return tuple(
        HostChange(
            host=each.get("host", str),
            before=_addresses(each, "before"),
            after=_addresses(each, "after"),
            error=each.maybe("error", str),
        )
        for each in given.objects("changes")
    )


def _addresses(given: Shape, name: str) -> tuple[Address, ...]:
    texts = given.array(name, str)
    try:
        return tuple(map(ip_address, texts))
    except ValueError as error:
        raise ShapeError(f"{name}: {error}") from None
