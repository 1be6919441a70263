"""Test traffic: `Sender` of numbered, time-stamped datagrams, and `Receiver` that evaluates them.

A datagram of `Sender` begins with 24 bytes, big-endian: ``mcr1``, the random id of the stream (32
bits), a sequence number (64 bits, from 0) and the time of its send call (CLOCK_REALTIME in ns, 64
bits). From these a receiver computes losses, duplicates, reordering and latency.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from ._native import ReceiverCore, SenderCore, interfaces
from .errors import McrError, RuleError
from .rules import Input, Output, fields
from .rules.fields import TTL_WORDS, Invalid, ProblemCollector, integer, received_sequence
from .rules.local_host import LocalHost
from .rules.resolver import RuleResolver
from .rules.spec import ResolvedInput, ResolvedOutput, input_spec, output_spec
from .stats import SequenceStats
from .stats.report import sequence_stats

HEADER_BYTES = 24
"""The minimum size of a datagram, which must hold the header."""
DEFAULT_SIZE_BYTES = 1400

_LIMIT_BYTES = {4: 65507, 6: 65527}  # 65535 less the headers of UDP and, in IPv4, of IP
_LIMIT_PPS = 1e9
_LIMIT_S = 1e9
_LIMIT_COUNT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class SendReport:
    """The result of one `Sender.send`; it used ``sent + sum(errors.values())`` sequence numbers."""

    sent: int
    """Datagrams that the kernel accepted."""
    sent_bytes: int
    """Their payload, in bytes."""
    seconds: float
    """The duration of the call."""
    rate_pps: float
    """Datagrams per second: from the first to the last if they are paced, else of the call."""
    errors: Mapping[str, int]
    """Datagrams that the kernel rejected, by the name of the error; they are not retried."""
    refused: int
    """ICMP errors (such as "port unreachable") for earlier datagrams; they cause no loss here."""
    gap_p50_us: float | None
    """The median gap between send calls, in microseconds; None without a pace."""
    gap_p99_us: float | None
    """The 99th percentile of the gaps."""
    late_p99_us: float | None
    """The 99th percentile of the delays from the scheduled time to the send call."""

    def as_dict(self) -> dict[str, Any]:
        """The JSON of ``mcr send --json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Latency:
    """The time from before the send call to the kernel's receive timestamp (SO_TIMESTAMPNS), in us.

    Across two hosts it is as accurate as their clocks are synchronized.
    """

    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    negative: int
    """Datagrams received before their send time, because the clocks differ; counted as 0 us."""


@dataclass(frozen=True, slots=True)
class ReceivedSequence:
    """What the numbers in the datagrams of one sender say."""

    source: str
    source_port: int
    datagrams: int
    """All that came from there."""
    sequence: SequenceStats | None
    """As of a flow in a relay, by the same rules; None before anything was read."""


@dataclass(frozen=True, slots=True)
class ReceiveReport:
    """The counts of a `Receiver` since its creation.

    ``received = foreign + duplicated + (each datagram of a stream once)``.
    """

    received: int
    """All datagrams, including duplicates and foreign ones."""
    received_bytes: int
    """Their payload, in bytes."""
    lost: int
    """Missing between the first and the highest sequence number of each stream."""
    duplicated: int
    """Datagrams that were received before."""
    reordered: int
    """Datagrams received after one with a higher sequence number (RFC 4737)."""
    foreign: int
    """Datagrams that are not from a `Sender`: they have no sequence number and time."""
    streams: int
    """Senders; a restarted one counts as another."""
    kernel_dropped: int
    """Dropped in this host because the receiver was too slow (SO_MEMINFO), not by the network.
    Counted in buffers, each of which holds several datagrams if the kernel merged them."""
    seconds: float
    """From the first datagram to the last."""
    rate_pps: float
    """Datagrams per second over that time; 0 with fewer than two."""
    latency: Latency | None
    """None without a datagram that has a time."""
    sequences: tuple[ReceivedSequence, ...] | None = None
    """For each sender, with numbers of any format; None if they are not read."""
    senders_evicted: int = 0
    """Senders beyond 64, which took the places of those that were silent for longest."""

    def as_dict(self) -> dict[str, Any]:
        """The JSON of ``mcr receive --json``."""
        return asdict(self)


class _Native(Protocol):
    """The methods that both native cores have."""

    def stop(self) -> None:
        """End the call in progress, and any later one at once."""


Core = TypeVar("Core", bound=_Native)


class _Endpoint(Generic[Core]):
    """The lifecycle of a native core: in use, stopped, closed."""

    _core: Core | None

    def stop(self) -> None:
        """End the call in progress, and any later one at once. Thread-safe."""
        if (core := self._core) is not None:
            core.stop()

    def close(self) -> None:
        """Stop, and release the socket and its membership. Idempotent."""
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
        except BaseException:  # raised by a signal handler
            self.close()
            raise

    def _open_core(self) -> Core:
        if (core := self._core) is None:
            raise McrError(f"this {type(self).__name__.lower()} is closed")
        return core


class Sender(_Endpoint[SenderCore]):
    """Sends numbered, time-stamped datagrams to a group or a host.

    If the send buffer is full, it waits and drops nothing. Use it as a context manager, or call
    `close`. All methods are thread-safe; one thread at a time sends.

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
            endpoint: the destination, written as a rule's output with its options.
            rate_pps: datagrams per second, evenly spaced, up to 1e9; None sends as fast as
                possible. On a busy host an even pace needs CAP_SYS_NICE, which is used if the
                process has it.
            size_bytes: the payload of each datagram, 24 to 65507 bytes (IPv6: 65527).
            ttl: 1 to 255; None means 1 for a group and 64 for a host.

        Raises:
            RuleError: invalid arguments, an unknown interface or host; `problems` has all of them.
            InterfaceError: the kernel refused an interface or an address.
            RightsError: a capability is missing; the text names it.
        """
        check = ProblemCollector()
        target = _target(endpoint, ttl, check)
        limit = _LIMIT_BYTES[target.address.version if target else 6]
        check.optional("rate_pps", lambda value: _positive(value, _LIMIT_PPS), rate_pps)
        check.field("size_bytes", lambda value: integer(value, HEADER_BYTES, limit), size_bytes)
        check.raise_if_any()
        assert target is not None  # else there was a problem
        self.target = target
        """The destination, resolved on this host."""
        self._core = SenderCore(output_spec(target), size_bytes, rate_pps)

    def send(self, count: int | None = None, duration_s: float | None = None) -> SendReport:
        """Send until a limit is reached or `stop` was called.

        A further call continues with the next sequence number.

        Args:
            count: the number of datagrams, including those that the kernel rejects.
            duration_s: the duration in seconds.

        Raises:
            RuleError: a limit is not positive, or another thread is sending.
            McrError: the sender is closed.
        """
        _check_limits(count=count, duration_s=duration_s)
        return SendReport(**self._open_core().send(count, duration_s))


class Receiver(_Endpoint[ReceiverCore]):
    """Receives datagrams to a group or to an address of this host, and evaluates `Sender`'s.

    The constructor joins the group; later datagrams are queued until `receive` is called. Use it as
    a context manager, or call `close`. All methods are thread-safe; one thread at a time receives.

    Example:
        with mcr.Receiver("10.0.0.5@232.1.1.1%eth0:5001") as receiver:
            print(receiver.receive(duration_s=10))
    """

    def __init__(self, endpoint: str | Input, *, gro: bool = True, seq: str | None = None) -> None:
        """Open the socket and join.

        Args:
            endpoint: the datagrams to receive, written as a rule's input without a name or VLAN.
            gro: whether the kernel may deliver several datagrams at once (UDP_GRO). This is
                faster, but all of them have the timestamp of the first.
            seq: how the datagrams are numbered, as a rule says it (`rtp`, `rtp/90000`, `ts`,
                `mold`, `mcr`, `4:32le`), or `auto` to recognise it for each sender: the report then
                has `sequences`. None reads no numbers but those of `Sender`, unless the endpoint
                has an option `seq`.

        Raises:
            RuleError: an invalid endpoint; `problems` has all problems.
            InterfaceError: the kernel refused an interface, an address or a membership.
            RightsError: a capability is missing; the text names it.
        """
        check = ProblemCollector()
        check.field("gro", fields.switch, gro)
        told = check.optional("seq", received_sequence, seq)
        check.raise_if_any()
        source = _source(endpoint)
        told = source.seq if told is None else told
        self.source = replace(source, seq=None if told == "auto" else told)
        """The input, resolved on this host."""
        reads_numbers = told not in {None, "none"}
        self._core = ReceiverCore(input_spec(self.source), gro, reads_numbers)

    def receive(
        self,
        count: int | None = None,
        duration_s: float | None = None,
        idle_s: float | None = None,
    ) -> ReceiveReport:
        """Receive until a limit is reached or `stop` was called; return the report so far.

        Args:
            count: the number of datagrams of this call; further ones stay queued for the next.
            duration_s: the duration in seconds.
            idle_s: end after this many seconds without a datagram.

        Raises:
            RuleError: a limit is not positive, or another thread is receiving.
            McrError: the receiver is closed.
        """
        _check_limits(count=count, duration_s=duration_s, idle_s=idle_s)
        return _receive_report(self._open_core().receive(count, duration_s, idle_s))

    def report(self) -> ReceiveReport:
        """The report so far, also while another thread receives.

        Raises:
            McrError: the receiver is closed.
        """
        return _receive_report(self._open_core().report())


def _target(
    endpoint: str | Output, ttl: int | None, check: ProblemCollector
) -> ResolvedOutput | None:
    try:
        output = endpoint if isinstance(endpoint, Output) else Output.parse(endpoint)
        if ttl is not None:
            if output.ttl not in (None, ttl):
                raise RuleError([("ttl", f"is {ttl}, but {output.ttl} in the endpoint")])
            output = replace(output, ttl=ttl)
        _check_values(output)
        return _resolver().resolve_output(output)
    except RuleError as error:
        check.problems += error.problems
        return None


def _check_values(output: Output) -> None:
    """Refuse "keep" and "decrement", which need a received datagram."""
    options = {
        "ttl": output.ttl,
        "dscp": output.dscp,
        "source": output.source,
        "source_port": output.source_port,
    }
    kept = [(field, value) for field, value in options.items() if value in TTL_WORDS]
    if kept:
        reason = "is for outputs of a relay, since a sender receives no datagrams; write a value"
        raise RuleError([(field, f"{value!r} {reason}") for field, value in kept])


def _source(endpoint: str | Input) -> ResolvedInput:
    source = endpoint if isinstance(endpoint, Input) else Input.parse(endpoint)
    resolved = _resolver().resolve_input(source)
    if source.sources and not source.group.is_multicast:
        raise RuleError([("sources", f"{source.group} is not a group; omit the sources")])
    if source.interface is None:
        # Datagrams of this host to its own address arrive on the loopback interface, not on the
        # interface with the address.
        return replace(resolved, interface="", ifindex=0)
    return resolved


def _resolver() -> RuleResolver:
    return RuleResolver(LocalHost(interfaces(), "udp"))


def _receive_report(report: dict[str, Any]) -> ReceiveReport:
    latency, senders = report.pop("latency"), report.pop("senders")
    sequences = None if senders is None else tuple(map(_received_sequence, senders))
    return ReceiveReport(
        **report,
        latency=None if latency is None else Latency(**latency),
        sequences=sequences,
    )


def _received_sequence(sender: dict[str, Any]) -> ReceivedSequence:
    sequence = sequence_stats(sender.pop("sequence"))
    return ReceivedSequence(**sender, sequence=sequence)


def _check_limits(
    *, count: int | None, duration_s: float | None, idle_s: float | None = None
) -> None:
    check = ProblemCollector()
    check.optional("count", lambda value: integer(value, 1, _LIMIT_COUNT), count)
    check.optional("duration_s", lambda value: _positive(value, _LIMIT_S), duration_s)
    check.optional("idle_s", lambda value: _positive(value, _LIMIT_S), idle_s)
    check.raise_if_any()


def _positive(value: float, limit: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise Invalid(f"must be a number, not {value!r}")
    if not 0 < value <= limit:
        raise Invalid(f"{value} is out of range: above 0, at most {limit:.0f}")
    return value
