"""The command `mcr send`: numbered, time-stamped datagrams to a group or a host."""

import json
import sys
from typing import Annotated

import typer

from ..rules.fields import TTL_LIMIT
from ..traffic import DEFAULT_SIZE_BYTES, Sender, SendReport
from .options import AsJson, Count, Duration
from .signals import stopping
from .usage import Problems
from .writer import PATIENCE_S, Writer

_MODERATE_PPS = "1000"  # 11 Mbit/s in datagrams of the usual size
_UNPACED = "max"
_OPTIONS = {"size_bytes": "--size", "rate_pps": "--rate"}


def send(
    endpoint: Annotated[
        str,
        typer.Argument(
            metavar="ENDPOINT",
            help="Where to, as an output of a rule: 239.1.1.1%eth0:5001 or 192.0.2.7:7000.",
        ),
    ],
    rate: Annotated[
        str,
        typer.Option(
            metavar="PPS", help=f"Datagrams per second; {_UNPACED} sends as fast as it goes."
        ),
    ] = _MODERATE_PPS,
    size: Annotated[
        str, typer.Option(metavar="BYTES", help="Payload of each datagram, at least 24.")
    ] = str(DEFAULT_SIZE_BYTES),
    count: Count = None,
    duration: Duration = None,
    ttl: Annotated[
        str | None,
        typer.Option(metavar="N", help="1 to 255; without, 1 for a group and 64 for a host."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Send datagrams that `mcr receive` can account for, until Ctrl-C or a limit."""
    problems = Problems()
    rate_pps = None if rate == _UNPACED else problems.rate("--rate", rate)
    size_bytes = problems.count("--size", size)
    datagrams = problems.count("--count", count)
    seconds = problems.seconds("--duration", duration)
    hops = problems.count("--ttl", ttl, TTL_LIMIT)
    sender = problems.collect(
        "endpoint",
        lambda: Sender(
            endpoint, rate_pps=rate_pps, size_bytes=size_bytes or DEFAULT_SIZE_BYTES, ttl=hops
        ),
        # Without the option a wrong TTL is the endpoint's.
        _OPTIONS if ttl is None else {**_OPTIONS, "ttl": "--ttl"},
    )
    problems.raise_if_any()
    assert sender is not None  # else there was a problem
    with sender, stopping(sender.stop):
        pace = f"{rate_pps:g} a second" if rate_pps else "as fast as it goes"
        notices = Writer(sys.stderr)
        notices.write(
            f"sending to {endpoint}, ttl {sender.target.ttl}, {size} bytes each, {pace}\n"
        )
        report = sender.send(datagrams, seconds)
    notices.finish(PATIENCE_S)
    print(json.dumps(report.as_dict()) if as_json else _text(report), flush=True)
    return 1 if report.errors and not report.sent else 0


def _text(report: SendReport) -> str:
    lines = [
        f"sent {report.sent:,} datagrams ({report.sent_bytes:,} bytes) in {report.seconds:.3f} s:"
        f" {report.rate_pps:,.0f} a second"
    ]
    if report.gap_p99_us is not None:
        lines.append(
            f"gaps p50 {report.gap_p50_us:.1f} us, p99 {report.gap_p99_us:.1f} us;"
            f" late p99 {report.late_p99_us:.1f} us"
        )
    lines += [f"not sent, {name}: {count:,}" for name, count in report.errors.items()]
    if report.refused:
        lines.append(f"answered by an ICMP error (nobody listens there?): {report.refused:,}")
    return "\n".join(lines)
