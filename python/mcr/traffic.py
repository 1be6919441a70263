"""Test traffic: a `Sender` of numbered, time-stamped datagrams, a `Receiver` that judges them.

A datagram of `Sender` begins with 24 bytes, big-endian: ``mcr1``, the stream's random name (32
bits), a sequence number (64 bits, from 0) and the time of its send call (CLOCK_REALTIME in ns, 64
bits). From these a receiver tells what was lost, doubled, out of order, and how long it took.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from ._native import ReceiverCore, SenderCore, interfaces
from .errors import McrError, RuleError
from .rules import Input, Output
from .rules.fields import Invalid, ProblemCollector
from .rules.local_host import LocalHost
from .rules.resolver import RuleResolver
from .rules.spec import ResolvedInput, ResolvedOutput

HEADER_BYTES = 24
"""The least size of a datagram: it must hold the header."""
DEFAULT_SIZE_BYTES = 1400

_LIMIT_BYTES = {4: 65507, 6: 65527}  # 65535 less the headers of UDP and, in IPv4, of IP
_LIMIT_PPS = 1e9
_LIMIT_S = 1e9
_LIMIT_COUNT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class SendReport:
    """What one call of `Sender.send` did; ``sent + sum(errors.values())`` numbers were used."""

    sent: int
    """Datagrams that the kernel took."""
    sent_bytes: int
    """Their payload."""
    seconds: float
    """How long the call took."""
    rate_pps: float
    """Datagrams per second: from the first to the last where they are paced, else overall."""
    errors: Mapping[str, int]
    """Datagrams that the kernel refused, by the name of its error; they are not sent again."""
    refused: int
    """ICMP errors (as "port unreachable") that came for earlier datagrams; none is lost by it."""
    gap_p50_us: float | None
    """The median gap between send calls, in microseconds; None without a pace."""
    gap_p99_us: float | None
    """99 of 100 gaps were at most this."""
    late_p99_us: float | None
    """99 of 100 datagrams left at most this long after their time."""

    def as_dict(self) -> dict[str, Any]:
        """The JSON of ``mcr send --json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Latency:
    """From before the send call to the kernel's receive timestamp (SO_TIMESTAMPNS), in us.

    Across two hosts it is as true as their clocks agree.
    """

    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    negative: int
    """Datagrams that came before they were sent, as the clocks disagree; counted as 0 us."""


@dataclass(frozen=True, slots=True)
class ReceiveReport:
    """What a `Receiver` heard since it was made.

    ``received = foreign + duplicated + (each datagram of a stream once)``.
    """

    received: int
    """All datagrams, duplicates and foreign ones included."""
    received_bytes: int
    """Their payload."""
    lost: int
    """Missing between the first and the highest number of each stream."""
    duplicated: int
    """Came before."""
    reordered: int
    """Came after one with a higher number (RFC 4737)."""
    foreign: int
    """Not made by a `Sender`: they have neither number nor time."""
    streams: int
    """Senders heard; a restarted one is another."""
    kernel_dropped: int
    """Dropped in this host because the receiver was slow (SO_MEMINFO): not the network's loss.
    It counts buffers, and where the kernel merged datagrams one buffer holds several."""
    seconds: float
    """From the first datagram to the last."""
    rate_pps: float
    """Datagrams per second over that time; 0 with fewer than two."""
    latency: Latency | None
    """None until a datagram with a time came."""

    def as_dict(self) -> dict[str, Any]:
        """The JSON of ``mcr receive --json``."""
        return asdict(self)


class _Native(Protocol):
    """What both native tools can do."""

    def stop(self) -> None:
        """End the call in progress, and any later one at once."""


Core = TypeVar("Core", bound=_Native)


class _Tool(Generic[Core]):
    """The life of a native tool: in use, stopped, closed."""

    _core: Core | None

    def stop(self) -> None:
        """End the call in progress, and later ones at once. From any thread."""
        if (core := self._core) is not None:
            core.stop()

    def close(self) -> None:
        """Stop, and give the socket and its membership back. Twice is once."""
        self.stop()
        self._core = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except BaseException:  # of a signal handler
            self.close()
            raise

    def _opened(self) -> Core:
        if (core := self._core) is None:
            raise McrError(f"this {type(self).__name__.lower()} is closed")
        return core


class Sender(_Tool[SenderCore]):
    """Sends numbered, time-stamped datagrams to a group or a host.

    A full send buffer makes it wait: it drops nothing itself. Use it as a context manager, or
    call `close`. Every method may be called from any thread; one at a time sends.

    Example:
        with mcr.Sender("239.1.1.1%eth0:5001", rate_pps=1000) as sender:
            print(sender.send(duration_s=10))
    """

    def __init__(
        self,
        endpoint: str | Output,
        *,
        rate_pps: float | None = None,
        size_bytes: int = DEFAULT_SIZE_BYTES,
        ttl: int | None = None,
    ) -> None:
        """Open the socket; nothing is sent yet.

        Args:
            endpoint: where to, in the words of a rule's output, options included.
            rate_pps: datagrams per second, evenly spaced, up to 1e9; None is as fast as possible.
                On a busy host an even pace needs CAP_SYS_NICE, which is used where it is there.
            size_bytes: payload of each, from 24 to 65507 (IPv6: 65527).
            ttl: 1 to 255; without, 1 for a group and 64 for a host.

        Raises:
            RuleError: bad arguments, an unknown interface or host; `problems` names all of them.
            InterfaceError: the kernel refused an interface or an address.
            RightsError: a capability is missing; the text names it.
        """
        check = ProblemCollector()
        target = _target(endpoint, ttl, check)
        limit = _LIMIT_BYTES[target.address.version if target else 6]
        check.optional("rate_pps", lambda value: _above_zero(value, _LIMIT_PPS), rate_pps)
        check.field("size_bytes", lambda value: _whole(value, HEADER_BYTES, limit), size_bytes)
        check.raise_if_any()
        assert target is not None  # else there was a problem
        self.target = target
        """Where to, checked against this host."""
        self._core = SenderCore(target, size_bytes, rate_pps)

    def send(self, count: int | None = None, duration_s: float | None = None) -> SendReport:
        """Send until a limit is reached or `stop` was called.

        A second call goes on with the next number.

        Args:
            count: datagrams, those that the kernel refuses included.
            duration_s: seconds.

        Raises:
            RuleError: a limit that is not above zero, or another thread is sending.
            McrError: the sender is closed.
        """
        _check_limits(count=count, duration_s=duration_s)
        return SendReport(**self._opened().send(count, duration_s))


class Receiver(_Tool[ReceiverCore]):
    """Receives datagrams of a group or to an address of this host, and judges `Sender`'s.

    It has joined when it is made: what is sent afterwards waits for `receive`. Use it as a
    context manager, or call `close`. Every method may be called from any thread; one at a time
    receives.

    Example:
        with mcr.Receiver("10.0.0.5@232.1.1.1%eth0:5001") as receiver:
            print(receiver.receive(duration_s=10))
    """

    def __init__(self, endpoint: str | Input, *, gro: bool = True) -> None:
        """Open the socket and join.

        Args:
            endpoint: what to hear, in the words of a rule's input; without a name or VLAN.
            gro: whether the kernel may hand over several datagrams at once (UDP_GRO): that is
                faster, and then all of them carry the time of the first.

        Raises:
            RuleError: a bad endpoint; `problems` names all that is wrong.
            InterfaceError: the kernel refused an interface, an address or a membership.
            RightsError: a capability is missing; the text names it.
        """
        self.source = _source(endpoint)
        """What it hears, checked against this host."""
        self._core = ReceiverCore(self.source, gro)

    def receive(
        self,
        count: int | None = None,
        duration_s: float | None = None,
        idle_s: float | None = None,
    ) -> ReceiveReport:
        """Receive until a limit is reached or `stop` was called; give the report so far.

        Args:
            count: datagrams of this call; more that have come stay for the next.
            duration_s: seconds from now.
            idle_s: seconds without a datagram.

        Raises:
            RuleError: a limit that is not above zero, or another thread is receiving.
            McrError: the receiver is closed.
        """
        _check_limits(count=count, duration_s=duration_s, idle_s=idle_s)
        return _received(self._opened().receive(count, duration_s, idle_s))

    def report(self) -> ReceiveReport:
        """The report so far, also while another thread receives.

        Raises:
            McrError: the receiver is closed.
        """
        return _received(self._opened().report())


def _target(
    endpoint: str | Output, ttl: int | None, check: ProblemCollector
) -> ResolvedOutput | None:
    try:
        output = Output.parse(endpoint) if isinstance(endpoint, str) else endpoint
        if ttl is not None:
            if output.ttl not in (None, ttl):
                raise RuleError([("ttl", f"is {ttl} here and {output.ttl} in the endpoint")])
            output = replace(output, ttl=ttl)
        _refuse_kept(output)
        return _resolver().resolve_output(output)
    except RuleError as error:
        check.problems += error.problems
        return None


def _refuse_kept(output: Output) -> None:
    """Refuses what only a relay can do."""
    given = {
        "ttl": output.ttl,
        "dscp": output.dscp,
        "source": output.source,
        "source_port": output.source_port,
    }
    kept = [(field, value) for field, value in given.items() if value in ("keep", "decrement")]
    if kept:
        why = "is for a relay's outputs: a sender has no datagram to take it from; write a value"
        raise RuleError([(field, f"{value!r} {why}") for field, value in kept])


def _source(endpoint: str | Input) -> ResolvedInput:
    taken = Input.parse(endpoint) if isinstance(endpoint, str) else endpoint
    resolved = _resolver().resolve_input(taken)
    if taken.sources and not taken.group.is_multicast:
        raise RuleError([("sources", f"{taken.group} is not a group; leave them out")])
    if taken.interface is None:
        # What this host sends to its own address comes by the loopback, whoever has the address.
        return replace(resolved, interface="", ifindex=0)
    return resolved


def _resolver() -> RuleResolver:
    return RuleResolver(LocalHost(interfaces(), "udp"))


def _received(report: dict[str, Any]) -> ReceiveReport:
    latency = report.pop("latency")
    return ReceiveReport(**report, latency=None if latency is None else Latency(**latency))


def _check_limits(
    *, count: int | None, duration_s: float | None, idle_s: float | None = None
) -> None:
    check = ProblemCollector()
    check.optional("count", lambda value: _whole(value, 1, _LIMIT_COUNT), count)
    check.optional("duration_s", lambda value: _above_zero(value, _LIMIT_S), duration_s)
    check.optional("idle_s", lambda value: _above_zero(value, _LIMIT_S), idle_s)
    check.raise_if_any()


def _above_zero(value: float, limit: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise Invalid(f"{value!r} is not a number")
    if not 0 < value <= limit:
        raise Invalid(f"{value} is out of range; it is more than 0 and at most {limit:.0f}")
    return value


def _whole(value: int, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid(f"{value!r} is not a whole number")
    if not low <= value <= high:
        raise Invalid(f"{value} is out of range; it is {low} to {high}")
    return value
