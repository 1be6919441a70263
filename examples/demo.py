"""The demo behind `make demo`: one stream in, three copies out, every datagram counted.

First over loopback with the `udp` ingress, which needs no rights. Started as root, once more
between three network namespaces with the `packet` ingress (AF_PACKET).
"""

import argparse
import contextlib
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

import mcr
from namespaces import network

REFRESH_S = 0.2
IDLE_S = 1.0  # after this silence a receiver has everything
SIZE_BYTES = 1000
Enter = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Stage:
    """The hosts of a run; sockets are opened inside the `at_…` blocks."""

    title: str
    ingress: Literal["packet", "udp"]
    feed: str
    outputs: Sequence[str]
    listen: Sequence[str]
    at_source: Enter = nullcontext
    at_relay: Enter = nullcontext
    at_receiver: Enter = nullcontext


def loopback() -> Stage:
    """All three parts on this host; the ports are random, so that demos can run side by side."""
    port = random.randrange(20_000, 30_000)
    ends = [f"239.77.2.1%lo:{port + 1}", f"239.77.2.2%lo:{port + 2}", f"127.0.0.1:{port + 3}"]
    return Stage("over loopback", "udp", f"239.77.1.1%lo:{port}", ends, ends)


@contextlib.contextmanager
def three_namespaces() -> Iterator[Stage]:
    """Each part on a host of its own."""
    with network() as hosts:
        yield Stage(
            "across three network namespaces",
            "packet",
            "239.77.1.1%feed0:5001",
            ["239.77.2.1%out0:6001", "239.77.2.2%out0:6002", "10.77.2.2:6003"],
            ["239.77.2.1%sink0:6001", "239.77.2.2%sink0:6002", "10.77.2.2:6003"],
            at_source=hosts.source.entered,
            at_relay=hosts.relay.entered,
            at_receiver=hosts.receiver.entered,
        )


def play(stage: Stage, seconds: float, rate_pps: float, console: Console) -> bool:
    """Relay a generated stream; return whether every receiver got it and the counters add up."""
    feed = stage.feed.replace("%feed0", "%in0")  # the two ends of one wire
    rule = f"{feed} to {' '.join(stage.outputs)}"
    console.rule(Text(f"{stage.ingress} ingress, {stage.title}"))
    console.print(Text(rule))
    with ExitStack() as stack:
        with stage.at_receiver():
            receivers = [stack.enter_context(mcr.Receiver(end)) for end in stage.listen]
        with stage.at_relay():
            relay = stack.enter_context(mcr.Relay(rule, ingress=stage.ingress))
        with stage.at_source():
            generator = mcr.Sender(stage.feed, rate_pps=rate_pps, size_bytes=SIZE_BYTES)
            sender = stack.enter_context(generator)
        threads = stack.enter_context(ThreadPoolExecutor())
        hearing = [threads.submit(receiver.receive, idle_s=IDLE_S) for receiver in receivers]
        sending = threads.submit(sender.send, duration_s=seconds)
        watch(relay, sending, console)
        heard = [future.result() for future in hearing]
        stats = relay.stats()
    sent = sending.result().sent
    console.print(account(sent, stats.rules[0].outputs, heard))
    for sentence in stats.imbalances():
        console.print(Text(sentence), style="red")
    return not stats.imbalances() and all(report.received for report in heard)


def watch(relay: mcr.Relay, sending: "Future[mcr.SendReport]", console: Console) -> None:
    """Show the relay's own counters while the stream runs."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not sending.done():
            live.update(progress(relay.stats()), refresh=True)
            wait([sending], timeout=REFRESH_S)


def progress(stats: mcr.Stats) -> Table:
    """Return the live table."""
    rule = stats.rules[0]
    table = Table(title=Text(rule.state))
    for column in ("output", "wanted", "sent", "dropped"):
        table.add_column(column, justify="left" if column == "output" else "right")
    for output in rule.outputs:
        counts = (output.wanted, output.sent, output.lost)
        table.add_row(Text(output.output), *(f"{count:,}" for count in counts))
    return table


def account(
    sent: int, outputs: Sequence[mcr.OutputStats], heard: Sequence[mcr.ReceiveReport]
) -> Table:
    """Return the final table: from the generator through the relay to each receiver."""
    table = Table()
    for column in ("output", "sent", "relayed", "lost", "latency p50", "latency p99"):
        table.add_column(column, justify="left" if column == "output" else "right")
    for output, report in zip(outputs, heard, strict=True):
        latency = report.latency
        times = ("-", "-")
        if latency is not None:
            times = (f"{latency.p50_us:.0f} us", f"{latency.p99_us:.0f} us")
        counts = (sent, output.sent, sent - report.received)
        table.add_row(Text(output.output), *(f"{count:,}" for count in counts), *times)
    return table


def main() -> int:
    """Run on loopback, then in namespaces if that is permitted."""
    parser = argparse.ArgumentParser(description="Relay a generated stream to three outputs.")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the stream")
    parser.add_argument("--rate", type=float, default=2000.0, help="datagrams per second")
    arguments = parser.parse_args()

    console = Console()
    good = play(loopback(), arguments.seconds, arguments.rate, console)
    if os.geteuid() != 0:
        console.print("Started as root, this also runs across three network namespaces.")
        return int(not good)
    try:
        with three_namespaces() as stage:
            good &= play(stage, arguments.seconds, arguments.rate, console)
    except (OSError, mcr.RightsError) as error:
        console.print(Text(f"Skipped: network namespaces or AF_PACKET are not permitted: {error}"))
        good &= os.environ.get("CI") != "true"
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
