"""Commands whose output is not read any more: they do their work, and a signal ends them.

On loopback, without rights. The reader has exited (its end of the pipe is closed), or is stuck (the
pipe is full and not read).
"""

import fcntl
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.fake_supervisor import FakeSupervisor, control_process

import mcr
from mcr.cli.writer import TextWriter

COMMAND = [sys.executable, "-c", "import sys; from mcr.cli import main; sys.exit(main())"]
PIPE_BYTES = 4096
GROUP = "239.79.9.1"
PATIENCE_S = 30


class Output:
    """A small pipe for the output of a command."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def read_until(self, text: str) -> None:
        """Read lines until one contains the text."""
        seen = b""
        while text.encode() not in seen:
            part = os.read(self.reader, PIPE_BYTES)
            assert part, seen
            seen += part

    def spoil(self, how: str) -> None:
        """Close the reading end."""
        if how == "gone":
            os.close(self.reader)
            return
        os.set_blocking(self.writer, False)
        with suppress(BlockingIOError):
            while True:  # not one byte fits then
                os.write(self.writer, b"#")
        os.set_blocking(self.writer, True)

    def close(self) -> None:
        """Close both ends."""
        for end in (self.reader, self.writer):
            with suppress(OSError):
                os.close(end)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeSupervisor]:
    """A control process with one worker."""
    with control_process(tmp_path_factory.mktemp("control")) as supervisor:
        yield supervisor


@pytest.fixture
def output() -> Iterator[Output]:
    """A pipe for one command."""
    made = Output()
    yield made
    made.close()


@contextmanager
def running(output: Output, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that writes all its output to the pipe."""
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=output.writer, stderr=output.writer
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def target() -> Iterator[socket.socket]:
    """The receiver of copies."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.settimeout(PATIENCE_S)
        yield bound


def _rule(target: socket.socket) -> str:
    return f"{GROUP}%lo:5019 to 127.0.0.1:{target.getsockname()[1]}"


def _assert_relays(target: socket.socket) -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sender.sendto(b"x", (GROUP, 5019))
    assert target.recv(9) == b"x"


@pytest.mark.parametrize(("how", "report"), [("gone", []), ("stuck", ["--json"])])
def test_a_relay_needs_no_reader(
    how: str, report: list[str], output: Output, target: socket.socket
) -> None:
    """It keeps relaying while several lines are unread, and ends regularly."""
    with running(output, "relay", _rule(target), "--ingress", "udp", *report) as process:
        output.read_until("ready")
        output.spoil(how)
        lines_until_s = time.monotonic() + 1.5
        while time.monotonic() < lines_until_s:
            _assert_relays(target)
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("how", ["gone", "stuck"])
def test_a_daemon_needs_no_reader(
    how: str, output: Output, target: socket.socket, tmp_path: Path
) -> None:
    """Its log and final report delay nothing."""
    path = tmp_path / "mcr.sock"
    with running(output, "serve", "--socket", str(path), "--ingress", "udp") as process:
        output.read_until("ready")
        output.spoil(how)
        with mcr.Client(path) as client:
            client.set_log_level("debug")
            client.add_rule(_rule(target))
            _assert_relays(target)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["send", "events", "stats"])
def test_a_signal_ends_a_command_whose_reader_is_stuck(
    command: str, number: signal.Signals, output: Output, control: FakeSupervisor
) -> None:
    """Even one that was writing when the signal arrived."""
    ways = {
        "send": ["127.0.0.1:9", "--rate", "10"],
        "events": ["--socket", str(control.path), "--json"],
        "stats": ["--watch", "--socket", str(control.path), "--json"],
    }
    output.spoil("stuck")
    with running(output, command, *ways[command]) as process:
        if command == "send":
            _until_it_catches(process.pid)
        else:
            _until_it_writes(process.pid, control)
        process.send_signal(number)
        if command == "send":  # its report is asked for; who sends another one does not want it
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.3)
            process.send_signal(number)
        process.wait(PATIENCE_S)


def _until_it_catches(pid: int) -> None:
    """Wait until the process handles SIGTERM."""

    def catches() -> bool:
        status = Path(f"/proc/{pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    wait_until(catches)


def _publish_event(control: FakeSupervisor) -> None:
    control.workers[0].push(event="link", name="lo", index=1, change="mtu", detail="1500")


def _until_it_writes(pid: int, control: FakeSupervisor) -> None:
    """Wait until the process is blocked by its full pipe."""

    def writes() -> bool:
        _publish_event(control)
        return "pipe" in Path(f"/proc/{pid}/wchan").read_text()

    wait_until(writes)


def test_events_end_quietly_with_their_reader(
    output: Output, tmp_path: Path, control: FakeSupervisor
) -> None:
    """As with `| head`."""
    errors = tmp_path / "errors"
    with errors.open("wb") as said:
        command = [*COMMAND, "events", "--socket", str(control.path)]
        with subprocess.Popen(command, stdout=output.writer, stderr=said) as process:
            output.spoil("gone")

            def has_ended() -> bool:
                _publish_event(control)
                return process.poll() is not None

            wait_until(has_ended)
            assert process.wait() == 1
    assert errors.read_text() == ""


def test_a_writer_writes_everything_in_order() -> None:
    """However long it is, and however slow the reader is."""
    output = Output()
    try:
        with open(output.writer, "w", closefd=False) as stream:
            writer = TextWriter(stream)
            texts = [f"{number} {'é' * 9000}\n" for number in range(5)]
            for text in texts:
                writer.write(text)
            whole = "".join(texts).encode()
            read = b""
            while len(read) < len(whole):
                read += os.read(output.reader, 1000)
            assert read == whole
            writer.finish(PATIENCE_S)
    finally:
        output.close()


def test_a_writer_drops_text_that_does_not_fit() -> None:
    """Whole texts; it accepts more when the reader continues."""
    output = Output()
    try:
        output.spoil("stuck")
        with open(output.writer, "w", closefd=False) as stream:
            writer = TextWriter(stream, limit_bytes=100)
            for number in range(50):
                writer.write(f"line {number}\n")
            began_s = time.monotonic()
            writer.finish(0.2)
            assert 0.2 <= time.monotonic() - began_s < PATIENCE_S
            assert os.read(output.reader, PIPE_BYTES).startswith(b"#")
            writer.finish(PATIENCE_S)
            writer.write("last\n")
            writer.finish(PATIENCE_S)
            lines = os.read(output.reader, PIPE_BYTES).decode().splitlines()
        assert lines == [*(f"line {number}" for number in range(len(lines) - 1)), "last"]
        assert 5 < len(lines) < 20
    finally:
        output.close()


def test_a_writer_to_memory() -> None:
    """As tests use it."""
    stream = io.StringIO()
    writer = TextWriter(stream)
    writer.write("one\n")
    writer.finish(PATIENCE_S)
    assert (stream.getvalue(), writer.isatty()) == ("one\n", False)
