"""One run of one peer in one scenario; each function gives a sample."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryFile

from .failure import BenchError
from .generators import Sent, read_sent, start_feed, start_sender
from .native import Programs
from .order_sink import check_order
from .peers import Peer
from .sampling import Sample, highest_passing
from .scenarios import Kind, Scenario
from .topology import Count, Topology

READY_LIMIT_S = 20.0
LOG_LINES = 8  # of what a failed peer printed
PROBE_DATAGRAMS = 5
LOSS_LIMIT = 1e-4
# A burst of numbered datagrams that every queue on the way holds, and how often it is sent.
BURST_DATAGRAMS = 512
BURSTS = 3
SIZE_STEPS = 64  # of the sizes in a scaling run
PACED_BATCH = 16  # datagrams in one send of the paced generator
FIRST_RATE_PPS = 100_000.0
HIGHEST_RATE_PPS = 4_000_000.0
RATE_PRECISION = 0.04
REACHED = 0.97  # of what was asked of the generator or what it offered


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """How runs are made: programs, cores and times.

    Attributes:
        generator_core: generates, and reads the sink.
        relay_core: runs the relay.
        warm_s: traffic before the measured window.
        window_s: the measured window.
    """

    programs: Programs
    generator_core: int
    relay_core: int
    warm_s: float
    window_s: float


def run_peer(bench: Bench, scenario: Scenario, topology: Topology, peer: Peer) -> Sample:
    """Run one peer once.

    Raises:
        BenchError: the peer ended or never relayed anything; with the end of what it printed.
    """
    measure = {
        Kind.THROUGHPUT: _throughput,
        Kind.SCALING: _throughput,
        Kind.LOSSLESS: _lossless,
        Kind.LATENCY: _latency,
        Kind.CHANGES: _latency,
    }
    with _started(bench, scenario, topology, peer) as relays:
        return measure[scenario.kind](bench, scenario, topology, relays)


def try_peer(bench: Bench, scenario: Scenario, topology: Topology, peer: Peer) -> None:
    """Start a peer, see a few datagrams come through, and end it.

    Numbered datagrams must all come through, each to every output and in order.

    Raises:
        BenchError: as `run_peer`.
    """
    with _started(bench, scenario, topology, peer):
        if scenario.numbered:
            for _ in range(BURSTS):
                _send_burst(bench, scenario, topology)


def _send_burst(bench: Bench, scenario: Scenario, topology: Topology) -> None:
    topology.order_sink.reset()
    options = ("-n", str(BURST_DATAGRAMS))
    sent = read_sent(start_feed(bench.programs, bench.generator_core, scenario, topology, *options))
    _check_order(scenario, topology, sent, whole=True)


def _check_order(scenario: Scenario, topology: Topology, sent: Sent, *, whole: bool) -> None:
    """Check what has arrived once the relay has sent all that it holds.

    So what waits in a relay's sockets takes no time from the next run.
    """
    _settled(topology, time.monotonic() + READY_LIMIT_S)
    tally = topology.order_sink.count_flows()
    check_order(tally, sent.flows, scenario.shape.outputs, whole=whole)


@contextmanager
def _started(
    bench: Bench, scenario: Scenario, topology: Topology, peer: Peer
) -> Iterator[list[Popen[str]]]:
    """Run the peer in every relay namespace; ready means that a few datagrams came through."""
    with TemporaryFile("w+", prefix="mcr-bench-") as log:
        relays = [
            topology.spawn(
                namespace,
                (bench.relay_core, bench.generator_core)[: peer.cores],
                peer.command(scenario.shape.flows_at(hop), scenario.size_bytes),
                log,
            )
            for hop, namespace in enumerate(topology.relays)
        ]
        try:
            if peer.sends:
                _wait_until_sending(topology, relays)
            else:
                _wait_until_ready(bench, scenario, topology, relays)
            yield [] if peer.sends else relays
            _check_alive(relays)
        except BenchError as error:
            log.seek(0)
            last = " | ".join(log.read().strip().splitlines()[-LOG_LINES:])
            raise BenchError(f"{peer.name}: {error}: {last or 'it printed nothing'}") from error
        finally:
            for relay in relays:
                topology.end(relay)


def _wait_until_ready(
    bench: Bench, scenario: Scenario, topology: Topology, relays: list[Popen[str]]
) -> None:
    """Send a few datagrams at a time until at least as many copies of one round arrive."""
    before, deadline_s = topology.count(), time.monotonic() + READY_LIMIT_S
    wanted = scenario.shape.copies
    while time.monotonic() < deadline_s:
        _check_alive(relays)
        options = ("-n", str(PROBE_DATAGRAMS * scenario.shape.flows), "-b", "1")
        start_sender(bench.programs, bench.generator_core, scenario, topology, *options).wait()
        settled = _settled(topology, deadline_s)
        if _copies(scenario, before, settled) >= wanted:
            return
    raise BenchError(f"nothing relayed within {READY_LIMIT_S:.0f} s")


def _wait_until_sending(topology: Topology, senders: list[Popen[str]]) -> None:
    before, deadline_s = topology.count(), time.monotonic() + READY_LIMIT_S
    while topology.count().frames <= before.frames + PROBE_DATAGRAMS:
        _check_alive(senders)
        if time.monotonic() > deadline_s:
            raise BenchError(f"nothing sent within {READY_LIMIT_S:.0f} s")
        time.sleep(0.03)


def _check_alive(relays: list[Popen[str]]) -> None:
    for relay in relays:
        if relay.poll() is not None:
            raise BenchError(f"ended with code {relay.returncode}")


def _copies(scenario: Scenario, first: Count, last: Count) -> float:
    """How many copies arrived in between: frames where sizes differ, as no frame holds several."""
    if scenario.numbered or scenario.rate_pps or scenario.least_bytes:
        return float(last.frames - first.frames)
    return last.datagrams(scenario.size_bytes) - first.datagrams(scenario.size_bytes)


def _throughput(
    bench: Bench, scenario: Scenario, topology: Topology, relays: list[Popen[str]]
) -> Sample:
    """Count copies in a window under the scenario's rate, or the most that the generator can send.

    Several flows are interleaved one datagram at a time, so that nothing before the relay
    batches for it. At a rate of its own the scenario is about the relay's processor: datagrams
    change size, so that each copy is a send, and the sink counts a frame for each.
    """
    before_kib = _resident_kib(relays)
    generator = _start_load(bench, scenario, topology) if relays else None
    time.sleep(bench.warm_s)
    first, used_ns = topology.count(), _processor_ns(relays)
    time.sleep(bench.window_s)
    last, used_ns = topology.count(), _processor_ns(relays) - used_ns
    copies = _copies(scenario, first, last)
    rate = copies / (last.at_s - first.at_s)
    if generator is None:
        return Sample(rate)
    generator.terminate()
    sent = read_sent(generator)
    offered, shape = sent.rate_pps, scenario.shape
    _check_alive(relays)
    if scenario.numbered:
        _check_order(scenario, topology, sent, whole=False)
    return Sample(
        rate,
        {
            "offered_pps": offered,
            "generator_limited": float(rate >= REACHED * offered * shape.outputs / shape.alike),
            "ns_per_copy": used_ns / max(copies, 1.0),
            "resident_before_kib": before_kib,
            "resident_after_kib": _resident_kib(relays),
        },
    )


def _start_load(bench: Bench, scenario: Scenario, topology: Topology) -> Popen[str]:
    programs, core = bench.programs, bench.generator_core
    if scenario.numbered:
        topology.order_sink.reset()
        return start_feed(programs, core, scenario, topology)
    is_alone = scenario.shape.flows == 1 or scenario.shape.merges
    options = [] if is_alone else ["-b", "1"]
    if scenario.rate_pps:
        options += ["-r", str(scenario.rate_pps), "-v", str(SIZE_STEPS)]
    return start_sender(programs, core, scenario, topology, *options)


def _lossless(
    bench: Bench, scenario: Scenario, topology: Topology, relays: list[Popen[str]]
) -> Sample:
    """Search the highest paced rate with less than 0.01 % lost.

    A rate that fails gets a second try.
    """
    del relays
    reached = 0.0
    limited = False

    def passes(rate_pps: float) -> bool:
        nonlocal reached, limited
        for _ in range(2):
            achieved, lost = _paced(bench, scenario, topology, rate_pps)
            whole = lost < LOSS_LIMIT
            if whole and achieved >= REACHED * rate_pps:
                return True
            reached = max(reached, achieved if whole else 0.0)
            limited = whole
        return False

    found = highest_passing(passes, FIRST_RATE_PPS, HIGHEST_RATE_PPS, RATE_PRECISION)
    # Where the last rate that failed lost nothing, the generator did not reach it.
    return Sample(max(found, reached), {"generator_limited": float(limited)})


def _paced(
    bench: Bench, scenario: Scenario, topology: Topology, rate_pps: float
) -> tuple[float, float]:
    """Generate at a rate; give the rate that the generator reached, and the share lost."""
    before = topology.count()
    options = ["-r", str(rate_pps), "-t", str(bench.window_s)]
    if not scenario.shape.merges:
        options += ["-b", str(PACED_BATCH)]
    programs, core = bench.programs, bench.generator_core
    sent = read_sent(start_sender(programs, core, scenario, topology, *options))
    after = _settled(topology, time.monotonic() + READY_LIMIT_S)
    wanted = sum(sent.flows) / scenario.shape.alike
    return sent.rate_pps, 1 - _copies(scenario, before, after) / wanted


def _latency(
    bench: Bench, scenario: Scenario, topology: Topology, relays: list[Popen[str]]
) -> Sample:
    """Time datagrams from the sender's clock to the kernel's receive timestamp."""
    del relays
    count = max(2000, int(scenario.rate_pps * bench.window_s))
    flow, core = scenario.shape.flows_at(0)[0], (bench.generator_core,)
    topology.open_sink()
    try:
        receive = [
            bench.programs.latency_receive,
            "rx0",
            flow.outputs[0],
            str(count),
            str(count // 10),
        ]
        receiver = topology.spawn(topology.dst, core, receive)
        if receiver.stdout is None or receiver.stdout.readline() != "ready\n":
            raise BenchError("the latency receiver did not start")
        send = [bench.programs.latency_send, "tx0", flow.input]
        send += [str(scenario.size_bytes), str(scenario.rate_pps), str(count)]
        topology.spawn(topology.src, core, send).communicate()
        found = json.loads(receiver.communicate("")[0])
    finally:
        topology.close_sink()
    lost = 1 - found["received"] / count
    return Sample(
        found["p50_us"], {"p99_us": found["p99_us"], "max_us": found["max_us"], "lost": lost}
    )


def _settled(topology: Topology, deadline_s: float) -> Count:
    """Wait until the sink counts nothing more."""
    before = topology.count()
    while time.monotonic() < deadline_s:
        time.sleep(0.03)
        now = topology.count()
        if now.frames == before.frames:
            return now
        before = now
    return before


def _processor_ns(relays: list[Popen[str]]) -> int:
    """Sum the time that the relays' threads have run (/proc/PID/task/TID/schedstat)."""
    threads = (path for it in relays for path in Path(f"/proc/{it.pid}/task").glob("*/schedstat"))
    return sum(int(path.read_text().split()[0]) for path in threads)


def _resident_kib(relays: list[Popen[str]]) -> float:
    """Sum VmRSS of the relays in KiB."""
    total = 0
    for relay in relays:
        status = Path(f"/proc/{relay.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        total += int(found[1]) if found else 0
    return float(total)
