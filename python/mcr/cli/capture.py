"""The commands that show single datagrams of a daemon: `mcr capture` and `mcr trace`."""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Annotated, BinaryIO

import typer

from ..errors import McrError
from ..protocol.text import printable
from ..taps.filter import LEAST_RING_BYTES, MOST_RING_BYTES, RING_BYTES, TAKEN
from ..taps.pcapng import PcapngWriter
from ..taps.record import DatagramRecord
from ..taps.stream import TapStream
from .options import DurationOption, SocketOption
from .remote import connect
from .signals import until_interrupt

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_PIECE_S = 0.1
_STRAGGLERS_S = 0.3  # copies follow their datagram within a turn of the engine


def _size(text: str) -> int:
    """A number of bytes, such as 64M."""
    number, unit = text.upper().removesuffix("IB").removesuffix("B"), 1
    if number[-1:] in _UNITS:
        number, unit = number[:-1], _UNITS[number[-1]]
    if not number.isdecimal():
        raise ValueError(f"{text!r} is no size, such as 16M")
    size = int(number) * unit
    if not LEAST_RING_BYTES <= size <= MOST_RING_BYTES:
        raise ValueError(f"{text!r} is out of range: 1M to 64M")
    return size


def _part(text: str) -> int:
    """The n of 1/n."""
    first, _, number = text.partition("/")
    if first != "1" or not number.isdecimal() or int(number) == 0:
        raise ValueError(f"{text!r} is no part, such as 1/100")
    return int(number)


SampleOption = Annotated[
    int | None,
    typer.Option("--sample", metavar="1/N", parser=_part, help="Only every N-th datagram."),
]
_RuleOption = Annotated[
    str | None, typer.Option(metavar="RULE", help="Only this rule, by its id or name.")
]
_OutputOption = Annotated[
    int | None,
    typer.Option(metavar="K", min=1, help="Only copies for the K-th output of the rule, from 1."),
]
_ReasonOption = Annotated[
    str | None,
    typer.Option(
        metavar="DROP",
        help="Only what was dropped for this reason, such as source; any for all.",
    ),
]
_SideOption = Annotated[
    str | None, typer.Option(metavar="SIDE", help="Only one side: received, sent or dropped.")
]
_WriteOption = Annotated[
    str | None,
    typer.Option(
        "-w", "--write", metavar="FILE", help="Write pcapng to this file; - is standard output."
    ),
]
_RingOption = Annotated[
    int | None,
    typer.Option(
        metavar="SIZE",
        parser=_size,
        help="The memory of each worker for what was not read yet, 1M to 64M; by default 16M.",
    ),
]


def capture(
    rule: _RuleOption = None,
    output: _OutputOption = None,
    reason: _ReasonOption = None,
    side: _SideOption = None,
    write: _WriteOption = None,
    ring: _RingOption = None,
    seconds: DurationOption = None,
    sample: SampleOption = None,
    socket: SocketOption = None,
) -> None:
    """Capture datagrams as the daemon receives, sends and drops them.

    Without -w each is a line. Ctrl-C ends the capture, and a line on standard error says how many
    there were. The relay never waits: what is not read in time is left out and counted.
    """
    if side is not None and side not in TAKEN:
        raise typer.BadParameter(
            f"{side!r} is not one of {', '.join(map(repr, TAKEN))}", param_hint="'--side'"
        )
    if output is not None and rule is None:
        raise typer.BadParameter("needs --rule, whose output it is", param_hint="'--output'")
    if reason is not None and side not in (None, "dropped"):
        raise typer.BadParameter("goes with --side dropped only", param_hint="'--reason'")
    side = "dropped" if reason is not None else side
    with (
        until_interrupt(),
        connect(socket) as client,
        client.capture(
            rule,
            output=output,
            reason=None if reason == "any" else reason,
            take=[each for each in TAKEN if side in (None, each)],
            sample=sample or 1,
            ring_bytes=ring or RING_BYTES,
        ) as stream,
        _opened(write) as file,
    ):
        counts = Counter[str]()
        try:
            records = _counted(_until(stream, seconds), counts)
            if file is None:
                _print_lines(records)
            else:
                _write_frames(records, stream, file)
        finally:
            print(_summary(counts, stream.lost), file=sys.stderr)


def trace(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="The rule, by its id or name.")],
    count: Annotated[
        int, typer.Option(metavar="N", min=1, help="Stop after this many datagrams.")
    ] = 10,
    sample: SampleOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until Ctrl-C, however many come.")
    ] = False,
    socket: SocketOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each step as one JSON object.")
    ] = False,
) -> None:
    """Show what happens to single datagrams of a rule, step by step, with times.

    Also those that arrive for its groups and are not relayed, with the reason.
    """
    with (
        until_interrupt(),
        connect(socket) as client,
        client.trace(rule, sample=sample or 1) as stream,
    ):
        steps = stream if follow else _of_datagrams(stream, count)
        began: dict[tuple[int, int], int] = {}
        for record in steps:
            if as_json:
                print(json.dumps(record.as_dict()), flush=True)
            else:
                _print_steps(record, began)


def _until(stream: TapStream, seconds: float | None) -> Iterator[DatagramRecord | None]:
    """The records until the time is over or Ctrl-C; None in a pause."""
    ends_s = None if seconds is None else time.monotonic() + seconds
    # An interrupt while a record is written, as to a pipe that nobody reads, comes to the writer.
    with suppress(KeyboardInterrupt):
        while ends_s is None or time.monotonic() < ends_s:
            left_s = _PIECE_S if ends_s is None else ends_s - time.monotonic()
            yield stream.read(max(0.0, min(_PIECE_S, left_s)))
    ended_ns = time.time_ns()
    while (record := stream.read(0)) is not None and record.time_ns <= ended_ns:
        yield record  # was in a ring already


def _counted(
    records: Iterable[DatagramRecord | None], counts: Counter[str]
) -> Iterator[DatagramRecord | None]:
    """The same records, with each one that was written counted by what happened."""
    for record in records:
        yield record
        if record is not None:
            counts[record.step] += 1


def _summary(counts: Counter[str], missed: int) -> str:
    """How many datagrams and copies were captured, and how many were not read in time."""
    received, sent = counts["matched"], counts["sent"]
    dropped = counts["discarded"] + counts["lost"]
    whole = f"captured {counts.total()} frames: {received} received, {sent} sent, {dropped} dropped"
    return f"{whole}; {missed} were not read in time" if missed else whole


def _print_lines(records: Iterable[DatagramRecord | None]) -> None:
    for record in records:
        if record is not None:
            print(f"{_moment(record.time_ns)}  {printable(record.text)}", flush=True)


def _write_frames(
    records: Iterable[DatagramRecord | None], stream: TapStream, file: BinaryIO
) -> None:
    writer = PcapngWriter(file)
    file.flush()
    for record in records:
        if record is None:
            file.flush()  # a reader of a pipe gets what there is
        else:
            writer.write(record, stream.lost)
    file.flush()


@contextmanager
def _opened(write: str | None) -> Iterator[BinaryIO | None]:
    if write is None:
        yield None
    elif write == "-":
        if sys.stdout.isatty():
            raise McrError("-w -: standard output is a terminal; use a pipe, or name a file")
        yield sys.stdout.buffer
    else:
        with open(write, "wb") as file:
            yield file


def _of_datagrams(stream: TapStream, count: int) -> Iterator[DatagramRecord]:
    """The records of the first datagrams, and of their copies."""
    known: set[tuple[int, int]] = set()
    ends_s: float | None = None
    while ends_s is None or time.monotonic() < ends_s:
        record = stream.read(_PIECE_S)
        if record is None:
            continue
        key = (record.worker, record.datagram)
        if key not in known and len(known) == count:
            continue
        known.add(key)
        if len(known) == count and ends_s is None:
            ends_s = time.monotonic() + _STRAGGLERS_S
        yield record


def _print_steps(record: DatagramRecord, began: dict[tuple[int, int], int]) -> None:
    """Print the steps of a record: the first of a datagram with the time, others with the delay."""
    key = (record.worker, record.datagram)
    label = f"#{record.datagram}" if record.worker == 0 else f"#{record.worker}.{record.datagram}"
    steps: list[tuple[int, str]] = []
    if record.is_inbound:
        began.clear()  # the copies of earlier ones have left
        first_ns = began[key] = record.arrived_ns or record.time_ns
        where = "" if record.interface is None else f" on {record.interface}"
        steps.append((first_ns, f"received{where}: {record.flow}"))
        steps.append((record.time_ns, record.outcome))
    else:
        steps.append((record.time_ns, record.text))
    for time_ns, text in steps:
        first_ns = began.get(key, time_ns)
        when = _moment(time_ns) if time_ns == first_ns and text.startswith("received") else ""
        delay = when or f"+{(time_ns - first_ns) / 1000:.1f} us"
        print(f"{label:>6}  {delay:>15}  {printable(text)}", flush=True)


def _moment(time_ns: int) -> str:
    seconds, rest_ns = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds):%H:%M:%S}.{rest_ns // 1000:06d}"
