"""The command `mcr receive`: loss, order and latency of a test stream."""

import json
import sys
from typing import Annotated

import typer

from ..traffic import Receiver, ReceiveReport
from .options import CountOption, DurationOption, ReportAsJson
from .signals import stopping
from .writer import PATIENCE_S, TextWriter


def receive(
    endpoint: Annotated[
        str,
        typer.Argument(
            metavar="ENDPOINT",
            help="What to receive, as an input of a rule without options: 239.1.1.1%eth0:5001,"
            " 10.0.0.5@232.1.1.1%eth0:5001, or an address of this host with a port.",
        ),
    ],
    count: CountOption = None,
    duration: DurationOption = None,
    as_json: ReportAsJson = False,
) -> int:
    """Receive a test stream and measure its loss, order and latency.

    Runs until Ctrl-C or a limit. Other datagrams than those of mcr send are only counted.
    """
    receiver = Receiver(endpoint)
    with receiver, stopping(receiver.stop):
        notices = TextWriter(sys.stderr)
        notices.write(f"ready: receiving {endpoint}\n")
        report = receiver.receive(count, duration)
    notices.finish(PATIENCE_S)
    print(json.dumps(report.as_dict()) if as_json else _text(report), flush=True)
    return 0


def _text(report: ReceiveReport) -> str:
    lines = [
        f"received {report.received:,} datagrams ({report.received_bytes:,} bytes)"
        f" in {report.seconds:.3f} s: {report.rate_pps:,.0f} a second",
        f"lost {report.lost:,}, duplicated {report.duplicated:,}, reordered {report.reordered:,},"
        f" foreign {report.foreign:,}; streams {report.streams:,}",
    ]
    if report.kernel_dropped:
        lines.append(
            f"dropped by this host, as the receiver was too slow: {report.kernel_dropped:,} buffers"
            " (their datagrams count as lost)"
        )
    if (latency := report.latency) is not None:
        lines.append(
            f"latency p50 {latency.p50_us:.1f} us, p99 {latency.p99_us:.1f} us,"
            f" p99.9 {latency.p999_us:.1f} us, max {latency.max_us:.1f} us"
        )
        if latency.negative:
            lines.append(
                f"arrived before they were sent: {latency.negative:,}; the clocks of the two hosts"
                " disagree"
            )
    return "\n".join(lines)
