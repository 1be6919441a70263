"""The command `mcr receive`: loss, order and latency of a test stream."""

import json
import sys
from typing import Annotated

import typer

from ..protocol.summary import endpoint_text
from ..traffic import ReceivedSequence, Receiver, ReceiveReport
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
    seq: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Also read the numbers in the datagrams of each sender: rtp, rtp/CLOCK_HZ, ts,"
            " mold, mcr, OFFSET:WIDTH[le] (bytes, bits), or auto to recognise them.",
        ),
    ] = None,
    as_json: ReportAsJson = False,
) -> int:
    """Receive a test stream and measure its loss, order and latency.

    Runs until Ctrl-C or a limit. Other datagrams than those of mcr send are only counted, unless
    --seq says how they are numbered.
    """
    receiver = Receiver(endpoint, seq=seq)
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
    lines += map(_sequence_line, report.sequences or ())
    if report.senders_evicted:
        lines.append(f"{report.senders_evicted:,} more senders, not shown: at most 64 are followed")
    return "\n".join(lines)


def _sequence_line(received: ReceivedSequence) -> str:
    origin = endpoint_text(received.source, received.source_port)
    text = f"from {origin}: {received.datagrams:,} datagrams, "
    numbers = received.sequence
    if numbers is None or numbers.format is None:
        return f"{text}no numbers recognised"
    text += f"{numbers.text} ({numbers.jitter_of})"
    if numbers.gaps:
        text += f"; {numbers.gaps:,} gaps, at most {numbers.largest_gap:,} {numbers.unit} at once"
    return text
