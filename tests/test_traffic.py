"""`Sender` and `Receiver` over loopback: their datagrams, reports and errors."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

import mcr

IDLE_S = 0.3  # over loopback whatever was sent is there at once
GROUP = "239.78.7.7%lo"
PATIENCE_S = 15  # how even a pace is depends on the machine: one good run shows that it can be


@pytest.fixture
def port() -> int:
    """A UDP port that no program uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    assert isinstance(number, int)
    return number


@pytest.fixture
def by_hand(port: int) -> Iterator[tuple[mcr.Receiver, Callable[[bytes], int]]]:
    """A receiver, and a function that sends it any bytes."""
    with (
        mcr.Receiver(f"127.0.0.1:{port}") as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.connect(("127.0.0.1", port))
        yield receiver, sender.send


def may_raise_priority() -> bool:
    """Whether this process has CAP_SYS_NICE (23 in linux/capability.h)."""
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> 23 & 1)


def sleeping_gap_p99_us() -> float:
    """The precision of this machine: gaps of a real-time thread that sleeps 500 times for 1 ms."""

    def sleep() -> list[int]:
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        woken = []
        begin = time.monotonic()
        for number in range(1, 501):
            time.sleep(max(0.0, begin + number / 1000 - time.monotonic()))
            woken.append(time.monotonic_ns())
        return woken

    with ThreadPoolExecutor(1) as thread:
        woken = thread.submit(sleep).result()
    return sorted(after - before for before, after in pairwise(woken))[494] / 1000


def datagram(sequence: int, stream: int = 1, sent_ns: int = 0) -> bytes:
    """A datagram of a sender, as documented."""
    return struct.pack(">4sIQQ", b"mcr1", stream, sequence, sent_ns)


@pytest.mark.parametrize("gro", [True, False])
def test_every_datagram_sent_to_a_group_is_received(port: int, gro: bool) -> None:
    """Loopback loses nothing, whether the kernel merges datagrams or not."""
    with (
        mcr.Receiver(f"{GROUP}:{port}", gro=gro) as receiver,
        mcr.Sender(f"{GROUP}:{port}", size_bytes=300) as sender,
    ):
        sent = sender.send(count=5000)
        report = receiver.receive(count=5000, idle_s=IDLE_S)
    assert (sent.sent, sent.sent_bytes, sent.errors) == (5000, 1_500_000, {})
    assert (report.received, report.received_bytes) == (5000, 1_500_000)
    assert (report.lost, report.duplicated, report.reordered, report.foreign) == (0, 0, 0, 0)
    assert (report.streams, report.kernel_dropped) == (1, 0)
    assert report.rate_pps > 0


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
@pytest.mark.parametrize("size_bytes", [24, 1400, 65507])
def test_hosts_and_all_sizes_work(port: int, host: str, size_bytes: int) -> None:
    """Unicast needs no interface; large datagrams are sent one by one."""
    with mcr.Sender(f"{host}:{port}", size_bytes=size_bytes) as sender:
        address = sender.target.address
        bracketed = f"[{address}]" if address.version == 6 else address
        with mcr.Receiver(f"{bracketed}:{port}") as receiver:
            assert sender.send(count=100).sent == 100
            report = receiver.receive(count=100, idle_s=IDLE_S)
    assert (report.received, report.lost) == (100, 0)
    assert report.received_bytes == 100 * size_bytes


def test_a_source_list_filters_senders(port: int) -> None:
    """A receiver with a source gets datagrams from that one only."""
    to = f"232.78.7.7%lo:{port}"
    with (
        mcr.Receiver(f"127.0.0.2@{to}") as receiver,
        mcr.Sender(f"{to},source=127.0.0.2") as wanted,
        mcr.Sender(f"{to},source=127.0.0.3") as other,
    ):
        other.send(count=5)
        wanted.send(count=7)
        report = receiver.receive(idle_s=IDLE_S)
    assert (report.received, report.streams) == (7, 1)


def test_latency_ends_at_the_kernels_timestamp(port: int) -> None:
    """A receiver that reads late does not add to it."""
    with mcr.Receiver(f"{GROUP}:{port}") as receiver, mcr.Sender(f"{GROUP}:{port}") as sender:
        sender.send(count=10)
        threading.Event().wait(0.3)  # The lateness that must not be measured.
        latency = receiver.receive(count=10, idle_s=IDLE_S).latency
    assert latency is not None
    assert 0 < latency.p50_us <= latency.p99_us <= latency.p999_us <= latency.max_us < 200_000
    assert latency.negative == 0


def test_sequence_numbers_show_loss_duplicates_and_order(
    by_hand: tuple[mcr.Receiver, Callable[[bytes], int]],
) -> None:
    """Each kind is counted once, and the sum is what was received."""
    receiver, send = by_hand
    for sequence in (0, 1, 2, 5, 4, 5, 9):
        send(datagram(sequence))
    report = receiver.receive(count=7, idle_s=IDLE_S)
    assert (report.lost, report.duplicated, report.reordered) == (4, 1, 1)
    assert report.latency is not None


def test_foreign_datagrams_are_counted_and_harm_nothing(
    by_hand: tuple[mcr.Receiver, Callable[[bytes], int]],
) -> None:
    """Any bytes, empty ones and impossible numbers: all are counted as foreign."""
    receiver, send = by_hand
    send(datagram(7))
    strangers = [b"", b"mcr1", datagram(0)[:23], b"x" * 1000, datagram(2**63)]
    for stranger in strangers:
        send(stranger)
    send(datagram(8))
    report = receiver.receive(count=7, idle_s=IDLE_S)
    assert (report.received, report.foreign, report.lost) == (7, len(strangers), 0)


def test_thousands_of_streams_use_bounded_memory(
    by_hand: tuple[mcr.Receiver, Callable[[bytes], int]],
) -> None:
    """Streams that are no longer followed keep their counts."""
    receiver, send = by_hand
    for stream in range(1000):
        send(datagram(0, stream))
        send(datagram(2, stream))
    report = receiver.receive(count=2000, idle_s=IDLE_S)
    assert (report.streams, report.lost) == (1000, 1000)


def test_a_restarted_sender_is_no_loss(port: int) -> None:
    """Every sender begins a new stream; a further `send` continues the numbers."""
    with mcr.Receiver(f"{GROUP}:{port}") as receiver:
        for _ in range(3):
            with mcr.Sender(f"{GROUP}:{port}") as sender:
                sender.send(count=10)
                sender.send(count=10)
        report = receiver.receive(count=60, idle_s=IDLE_S)
    assert (report.received, report.streams) == (60, 3)
    assert (report.lost, report.duplicated) == (0, 0)


def test_datagrams_after_the_count_stay_queued(port: int) -> None:
    """A count is exact, even if the kernel merged datagrams."""
    with mcr.Receiver(f"{GROUP}:{port}") as receiver, mcr.Sender(f"{GROUP}:{port}") as sender:
        sender.send(count=100)
        assert receiver.receive(count=33, idle_s=IDLE_S).received == 33
        assert receiver.receive(idle_s=IDLE_S).received == 100
        assert receiver.report().lost == 0


def test_loss_in_the_receiving_socket_is_counted_apart(port: int) -> None:
    """As dropped in this host."""
    with mcr.Receiver(f"{GROUP}:{port}") as receiver, mcr.Sender(f"{GROUP}:{port}") as sender:
        flood = sender.send(count=100_000).sent
        receiver.receive(idle_s=IDLE_S)
        flood += sender.send(count=10).sent
        report = receiver.receive(idle_s=IDLE_S)
    assert report.kernel_dropped > 0
    assert report.received + report.lost == flood


def test_a_missing_receiver_costs_the_sender_nothing(port: int) -> None:
    """ICMP errors are counted, and the datagram that met one is sent again."""
    with mcr.Sender(f"127.0.0.1:{port}", rate_pps=5000) as sender:
        report = sender.send(count=50)
    assert (report.sent, report.errors) == (50, {})
    assert report.refused > 0


def is_even(gap_us: float | None, interval_us: float) -> bool:
    """Whether a gap differs from the interval by at most a tenth."""
    return gap_us == pytest.approx(interval_us, rel=0.1)


@pytest.mark.parametrize(
    ("rate_pps", "count", "judge"),
    [
        (
            1000,
            500,
            lambda report: (
                is_even(report.gap_p99_us, 1000) or report.gap_p99_us < sleeping_gap_p99_us()
            ),
        ),
        (25_000, 2500, lambda report: is_even(report.gap_p50_us, 40)),
    ],
    ids=["longest-gaps", "most-gaps"],
)
def test_a_pace_is_even(
    port: int, rate_pps: int, count: int, judge: Callable[[mcr.SendReport], bool]
) -> None:
    """Gaps differ by at most a tenth, or as little as this machine permits."""
    report = None
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with mcr.Sender(f"{GROUP}:{port}", rate_pps=rate_pps, size_bytes=100) as sender:
            report = sender.send(count=count)
        if judge(report) and report.rate_pps == pytest.approx(rate_pps, rel=0.05):
            return
    if not may_raise_priority():
        pytest.skip("this host is busy, and an even pace then needs CAP_SYS_NICE")
    pytest.fail(f"always uneven, the last time: {report}")


def test_without_a_pace_there_are_no_gaps_to_report(port: int) -> None:
    """Datagrams leave in batches."""
    with mcr.Sender(f"{GROUP}:{port}") as sender:
        report = sender.send(count=100)
    assert (report.gap_p50_us, report.gap_p99_us, report.late_p99_us) == (None, None, None)


def test_another_thread_can_report_and_stop(port: int) -> None:
    """A report is consistent at any time; `stop` ends an endless call."""
    with (
        mcr.Receiver(f"{GROUP}:{port}") as receiver,
        mcr.Sender(f"{GROUP}:{port}", rate_pps=2000) as sender,
        ThreadPoolExecutor() as threads,
    ):
        hearing = threads.submit(receiver.receive)
        sending = threads.submit(sender.send)
        deadline = time.monotonic() + 10
        while receiver.report().received < 100 and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(mcr.RuleError, match="already sending"):
            sender.send(count=1)
        with pytest.raises(mcr.RuleError, match="already receiving"):
            receiver.receive(count=1)
        sender.stop()
        sent = sending.result(timeout=5).sent
        receiver.stop()
        assert hearing.result(timeout=5).received >= 100
        assert sent >= 100
        assert sender.send(count=5).sent == 0


def test_a_closed_tool(port: int) -> None:
    """Its methods fail, `close` is idempotent, and the port is free again."""
    tools = mcr.Sender(f"127.0.0.1:{port}"), mcr.Receiver(f"127.0.0.1:{port}")
    for tool in tools:
        tool.close()
        tool.close()
        tool.stop()
    with pytest.raises(mcr.McrError, match="this sender is closed"):
        tools[0].send(count=1)
    with pytest.raises(mcr.McrError, match="this receiver is closed"):
        tools[1].receive(count=1)
    mcr.Receiver(f"127.0.0.1:{port}").close()


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (lambda: mcr.Sender("239.1.1.1%lo:5", size_bytes=23), ["size_bytes"]),
        (lambda: mcr.Sender("239.1.1.1%lo:5", size_bytes=65508), ["size_bytes"]),
        (lambda: mcr.Sender("[::1]:5", size_bytes=65528), ["size_bytes"]),
        (lambda: mcr.Sender("239.1.1.1%lo:5", rate_pps=0), ["rate_pps"]),
        (lambda: mcr.Sender("239.1.1.1%lo:5", rate_pps=float("nan")), ["rate_pps"]),
        (lambda: mcr.Sender("239.1.1.1%lo:5", rate_pps=float("inf")), ["rate_pps"]),
        (lambda: mcr.Sender("239.1.1.1%lo:5,ttl=3", ttl=4), ["ttl"]),
        (lambda: mcr.Sender("239.1.1.1%lo:5", ttl=256), ["ttl"]),
        (
            lambda: mcr.Sender("239.1.1.1%lo:5,ttl=decrement,dscp=keep,source=keep,sport=keep"),
            ["ttl", "dscp", "source", "source_port"],
        ),
        (lambda: mcr.Sender("239.1.1.1:5"), ["interface"]),
        (lambda: mcr.Sender("host.invalid:5"), ["address"]),
        (
            lambda: mcr.Sender("239.1.1.1%nope:5", rate_pps=-1, size_bytes=0),
            ["interface", "rate_pps", "size_bytes"],
        ),
        (lambda: mcr.Receiver("239.1.1.1%nope:5"), ["interface"]),
        (lambda: mcr.Receiver("203.0.113.9:5"), ["group"]),
        (lambda: mcr.Receiver("127.0.0.2@127.0.0.1:5"), ["sources"]),
        (lambda: mcr.Receiver("239.1.1.1%lo:5,vlan=4"), ["vlan"]),
        (lambda: mcr.Receiver("239.1.1.1%lo:0"), ["port"]),
    ],
)
def test_bad_arguments_are_named_all_at_once(make: Callable[[], object], fields: list[str]) -> None:
    """Each problem has its field."""
    with pytest.raises(mcr.RuleError) as caught:
        make()
    assert [problem.field for problem in caught.value.problems] == fields


@pytest.mark.parametrize(
    "limit", [{"count": 0}, {"duration_s": -1.0}, {"duration_s": float("nan")}]
)
def test_limits_are_above_zero(port: int, limit: dict[str, float]) -> None:
    """Both tools refuse others."""
    with mcr.Receiver(f"{GROUP}:{port}") as receiver, mcr.Sender(f"{GROUP}:{port}") as sender:
        for call in (receiver.receive, sender.send):
            with pytest.raises(mcr.RuleError, match=next(iter(limit))):
                call(**limit)  # type: ignore[arg-type]  # a wrong type is refused alike


def test_a_port_in_use_is_refused_by_the_kernel(port: int) -> None:
    """Two receivers of a unicast port would share its datagrams at random."""
    with (
        mcr.Receiver(f"127.0.0.1:{port}"),
        pytest.raises(mcr.InterfaceError, match="another program has this port"),
    ):
        mcr.Receiver(f"127.0.0.1:{port}")


@contextmanager
def command(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A command whose output can be read; it is ended with the block."""
    script = "import sys; from mcr.cli import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def await_line(process: "subprocess.Popen[str]", beginning: str) -> None:
    """Wait for the command's line on standard error."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith(beginning), line


def test_the_commands_account_for_each_other(port: int) -> None:
    """After Ctrl-C the receiver reports what the sender reported; both exit with 0."""
    to = f"{GROUP}:{port}"
    with command("receive", to, "--json") as receiver:
        await_line(receiver, "ready")
        with command("send", to, "--count", "500", "--rate", "2000", "--json") as sender:
            sent = json.loads(sender.communicate(timeout=30)[0])
        receiver.send_signal(signal.SIGINT)
        received = json.loads(receiver.communicate(timeout=30)[0])
    assert (sender.returncode, receiver.returncode) == (0, 0)
    assert (sent["sent"], received["received"], received["lost"]) == (500, 500, 0)
    assert received["latency"]["p50_us"] > 0
    assert sent["rate_pps"] == pytest.approx(2000, rel=0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_endless_sender_with_its_report(port: int, number: signal.Signals) -> None:
    """That is its regular end."""
    to = f"{GROUP}:{port}"
    with command("send", to, "--rate", "100") as sender:
        await_line(sender, f"sending to {to}, ttl 1, 1400 bytes each, 100 a second")
        sender.send_signal(number)
        out, err = sender.communicate(timeout=30)
    assert (sender.returncode, err) == (0, "")
    assert out.startswith("sent ")


def test_the_command_line_names_its_own_options() -> None:
    """Even if the sender finds the problem; the exit code is 2."""
    wrong = ("--rate", "0", "--size", "65508")
    with command("send", "239.1.1.1%lo:5001", *wrong) as sender:
        err = sender.communicate(timeout=30)[1]
    assert sender.returncode == 2
    options = [line.split(": ")[1] for line in err.splitlines()]
    assert sorted(options) == ["--rate", "--size"]


@pytest.mark.parametrize(
    ("rate", "pace"), [(("--rate", "1e3"), "1000 a second"), (("--flood",), "as fast as possible")]
)
def test_the_pace_is_shown(port: int, rate: tuple[str, ...], pace: str) -> None:
    """Only --flood sends as fast as possible."""
    to = f"{GROUP}:{port}"
    with command("send", to, *rate, "--count", "1") as sender:
        await_line(sender, f"sending to {to}, ttl 1, 1400 bytes each, {pace}")
        assert sender.wait(timeout=30) == 0
