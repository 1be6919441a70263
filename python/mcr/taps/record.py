"""What a tap has recorded of a datagram, as a value with names and a sentence."""

from dataclasses import dataclass
from typing import Any, Literal

from .. import _native
from .names import Names

_NS = 1e9


@dataclass(frozen=True, slots=True)
class DatagramRecord:
    """What happened to one datagram, or to one copy of it."""

    time: float
    """When it was recorded, in seconds since 1970: a received datagram when the rules were
    applied, a copy when the kernel had taken or refused it."""
    time_ns: int
    """The same in nanoseconds."""
    arrived_ns: int | None
    """When the kernel received the datagram, in nanoseconds since 1970; None if that is not
    known."""
    worker: int
    """The number of the worker."""
    datagram: int
    """The number of the datagram at its worker, from 1, which its copies have too."""
    step: Literal["matched", "discarded", "sent", "lost"]
    """What happened: rules matched it, or none relays it; a copy was sent, or lost."""
    reason: str | None
    """Why it was discarded or lost, as the counters name it, or ``unknown`` where only a later
    version knows; else None."""
    error: str | None
    """The kernel's error for a lost copy, such as EMSGSIZE; None if there was none."""
    interface: str | None
    """The interface on which it arrived or by which the copy leaves; None if that is not known."""
    rule: str | None
    """The id of the rule; None if none matched."""
    rule_name: str | None
    """The name of the rule, or its id; None if none matched."""
    rules: int
    """The number of rules that matched."""
    output: int | None
    """The number of the output in its rule, from 1; None for what was received."""
    output_text: str | None
    """The output as rule text; None for what was received."""
    frame: bytes
    """The frame from its Ethernet header on, as far as it was kept. Of copies, which the kernel
    completes, and of datagrams that were received merged or by a UDP socket, the headers are
    composed, with MAC addresses of zeros where they are not known."""
    frame_bytes: int
    """Bytes of the whole frame."""

    @property
    def is_inbound(self) -> bool:
        """Whether it is a received datagram, and not a copy."""
        return self.output is None

    @property
    def headers(self) -> _native.Datagram | None:
        """The addresses, ports and TTL in the frame; None if it has no readable datagram."""
        whole = self.frame.ljust(self.frame_bytes, b"\0")
        parsed = _native.parse_captured(whole, None, False)
        return parsed if isinstance(parsed, _native.Datagram) else None

    @property
    def outcome(self) -> str:
        """What happened, without the datagram, as a phrase."""
        where = "" if self.interface is None else f" on {self.interface}"
        match self.step:
            case "matched":
                more = f" and {self.rules - 1} more" if self.rules > 1 else ""
                return f"matched rule {self.rule_name}{more}"
            case "discarded":
                return f"not relayed: {self.reason}"
            case "sent":
                return f"sent to output {self.output} of {self.rule_name}{where}"
        why = f"{self.reason} ({self.error})" if self.error else self.reason
        return f"lost for output {self.output} of {self.rule_name}{where}: {why}"

    @property
    def text(self) -> str:
        """What happened, in a sentence."""
        if not self.is_inbound:
            return f"{self.outcome}: {self.flow}"
        where = "" if self.interface is None else f" on {self.interface}"
        return f"received{where}: {self.flow}; {self.outcome}"

    def as_dict(self) -> dict[str, Any]:
        """The facts as a JSON object, without the frame."""
        headers = self.headers
        flow = headers and {
            "source": str(headers.source),
            "source_port": headers.source_port,
            "group": str(headers.group),
            "port": headers.port,
            "ttl": headers.ttl,
            "size_bytes": len(headers.payload),
        }
        facts = {name: getattr(self, name) for name in self.__slots__ if name != "frame"}
        return {**facts, "headers": flow, "text": self.text}

    @property
    def flow(self) -> str:
        """Addresses, ports, size and TTL, as a phrase."""
        headers = self.headers
        if headers is None:
            return f"a frame of {self.frame_bytes} bytes"
        return (
            f"{_endpoint(headers.source, headers.source_port)} >"
            f" {_endpoint(headers.group, headers.port)}, {len(headers.payload)} bytes,"
            f" ttl {headers.ttl}"
        )


def named(record: _native.TapRecord, worker: int, names: Names) -> DatagramRecord:
    """The record of a worker's ring, with names."""
    rule, output, ifindex = record.rule, record.output, record.ifindex
    number = None if output is None else output + 1
    target = None if rule is None or number is None else names.output(rule, number)
    interface = target.interface if target else None
    if ifindex is not None:
        interface = names.interfaces.get(ifindex, f"interface {ifindex}")
    return DatagramRecord(
        time=record.time_ns / _NS,
        time_ns=record.time_ns,
        arrived_ns=record.arrived_ns,
        worker=worker,
        datagram=record.datagram,
        step=record.step,
        reason=record.reason,
        error=record.error,
        interface=interface,
        rule=rule,
        rule_name=None if rule is None else names.rule(rule),
        rules=record.rules,
        output=number,
        output_text=target.output if target else None,
        frame=record.frame,
        frame_bytes=record.frame_bytes,
    )


def _endpoint(address: object, port: int) -> str:
    text = str(address)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
