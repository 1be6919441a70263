"""The command `mcr send`: a stream of numbered, time-stamped datagrams to a group or a host."""

import json
import math
import sys
from typing import Annotated

import typer

from ..errors import RuleError
from ..rules.fields import TTL_LIMIT
from ..traffic import DEFAULT_SIZE_BYTES, HEADER_BYTES, Sender, SendReport
from .options import CountOption, DurationOption, ReportAsJson
from .signals import stopping
from .writer import PATIENCE_S, TextWriter

_OPTIONS = {"size_bytes": "--size", "rate_pps": "--rate"}


def _rate(value: str | float) -> float:
    """Datagrams per second."""
    try:
        rate = float(value)
    except ValueError:
        rate = math.nan
    if not math.isfinite(rate):
        raise ValueError(f"{value!r} is not a number; --flood sends as fast as possible")
    return rate


def send(
    endpoint: Annotated[
        str,
        typer.Argument(
            metavar="ENDPOINT",
            help="Where to send, as an output of a rule: 239.1.1.1%eth0:5001 or"
            " 192.0.2.7:7000,dscp=46.",
        ),
    ],
    rate: Annotated[
        float | None,
        typer.Option(metavar="PPS", parser=_rate, help="Datagrams per second; or give --flood."),
    ] = None,
    flood: Annotated[
        bool,
        typer.Option(
            "--flood", help="Send as fast as possible, which can fill the link; or give --rate."
        ),
    ] = False,
    size: Annotated[
        int, typer.Option(metavar="BYTES", min=HEADER_BYTES, help="Payload of each datagram.")
    ] = DEFAULT_SIZE_BYTES,
    count: CountOption = None,
    duration: DurationOption = None,
    ttl: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=TTL_LIMIT,
            help="TTL or hop limit; by default 1 for a group and 64 for a host.",
        ),
    ] = None,
    as_json: ReportAsJson = False,
) -> int:
    """Send a numbered test stream to a group or a host.

    Runs until Ctrl-C or a limit. mcr receive measures loss, order and latency of the stream.
    """
    if (rate is None) != flood:
        raise typer.BadParameter("give one of --rate PPS and --flood", param_hint="'--rate'")
    sender = _sender(endpoint, rate, size, ttl)
    with sender, stopping(sender.stop):
        pace = "as fast as possible" if rate is None else f"{rate:g} a second"
        notices = TextWriter(sys.stderr)
        notices.write(
            f"sending to {endpoint}, ttl {sender.target.ttl}, {size} bytes each, {pace}\n"
        )
        report = sender.send(count, duration)
    notices.finish(PATIENCE_S)
    print(json.dumps(report.as_dict()) if as_json else _text(report), flush=True)
    return 1 if report.errors and not report.sent else 0


def _sender(endpoint: str, rate_pps: float | None, size_bytes: int, ttl: int | None) -> Sender:
    """A sender; its problems name the options of the command line.

    Raises:
        RuleError: as `Sender`.
    """
    # Without the option a wrong TTL is that of the endpoint.
    options = _OPTIONS if ttl is None else {**_OPTIONS, "ttl": "--ttl"}
    try:
        return Sender(endpoint, rate_pps=rate_pps, size_bytes=size_bytes, ttl=ttl)
    except RuleError as error:
        named = ((options.get(field, field), message) for field, message in error.problems)
        raise RuleError(named) from None


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
        lines.append(f"answered by an ICMP error (no receiver there?): {report.refused:,}")
    return "\n".join(lines)
