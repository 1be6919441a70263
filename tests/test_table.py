"""The live view of a relay: a table on a terminal, lines elsewhere, and no markup."""

import io
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from mcr.cli.view import open_view
from mcr.protocol.summary import bits_text, bytes_text, report
from mcr.stats import InterfaceStats, OutputStats, RuleStats, Stats

MCR = str(Path(sys.executable).parent / "mcr")
PATIENCE_S = 20
WINDOW = (40, 160)  # rows, columns
OUTPUT = OutputStats(
    address="",
    output="[2001:db8::7]:7000",
    wanted=10,
    sent=7,
    sent_bytes=9800,
    pending=0,
    refused=0,
    dropped={"output_full": 3, "too_big": 0},
    errors={},
)
RULE = RuleStats(
    id="0123456789ab",
    name=None,
    rule="[ff3e::1%eth0]:5001 to [2001:db8::7]:7000",
    state="flowing from 2001:db8::5",
    matched=10,
    matched_bytes=14_000,
    outputs=(OUTPUT,),
)
INTERFACE = InterfaceStats(
    name="eth0",
    ingress="packet",
    received=12,
    matched=10,
    kernel_dropped_frames=4,
    buffer_waits=0,
    error=None,
    dropped={"no_rule": 2, "vlan": 0},
)
STATS = Stats(interfaces=(INTERFACE,), rules=(RULE,), taken_at_s=2.0)
BEFORE = replace(
    STATS,
    taken_at_s=1.0,
    rules=(replace(RULE, matched=0, matched_bytes=0, outputs=(replace(OUTPUT, dropped={}),)),),
)


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def test_lines_without_a_terminal() -> None:
    """One line for each reading: each rule's state, rate and losses."""
    stream = io.StringIO()
    with open_view(BEFORE, stream) as view:
        view.show(STATS)
        view.show(replace(STATS, taken_at_s=3.0))
    first, second = (line.split(" ", 1)[1] for line in stream.getvalue().splitlines())
    assert first == (
        "[ff3e::1%eth0]:5001: flowing from 2001:db8::5, 10/s 112.0 kbit/s, matched 10, lost 3"
        " | eth0: kernel dropped 4 frames"
    )
    assert ", 0/s 0 bit/s," in second


def test_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers in columns; brackets of addresses are not markup."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with open_view(BEFORE, stream) as view:
        view.show(STATS)
    shown = stream.getvalue()
    for text in ("in/s", "lost/s", "[ff3e::1%eth0]:5001", "flowing from", "112.0 kbit/s"):
        assert text in shown
    assert "eth0 (packet): received 12, matched 10, kernel dropped 4 frames [no_rule 2]" in shown


def test_the_report_lists_losses_by_reason() -> None:
    """Zeros are omitted, imbalances are reported."""
    text = report(STATS, 2.5)
    assert "ran 2.5 s" in text
    assert "[2001:db8::7]:7000: sent 7 of 10 (9.8 kB), lost 3 [output_full 3]" in text
    assert "too_big" not in text
    assert "refused" not in text
    assert "balance broken" not in text
    wrong = replace(STATS, interfaces=(replace(INTERFACE, received=13),))
    assert "balance broken, please report this: " in report(wrong, 1)


def test_the_report_shows_refused() -> None:
    """Separately from losses, since the datagrams were sent again."""
    rule = replace(RULE, outputs=(replace(OUTPUT, refused=5),))
    text = report(replace(STATS, rules=(rule,)))
    assert text.endswith("sent 7 of 10 (9.8 kB), lost 3 [output_full 3], refused 5")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (10**15, "1000.0 TB")],
)
def test_numbers_are_short(count: int, text: str) -> None:
    """Three digits and a unit."""
    assert bytes_text(count) == text
    assert bits_text(1.5e9) == "1.5 Gbit/s"


def test_the_command_draws_on_a_real_terminal() -> None:
    """The table is on standard error until Ctrl-C, then the report follows."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, WINDOW)
    command = [MCR, "relay", f"239.79.3.1%lo:{port} to 127.0.0.1:{port}", "--ingress", "udp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        try:
            read_until(ours, b"no frame seen")
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
            os.close(ours)
    assert process.returncode == 0
    assert "sent 0 of 0" in out


def read_until(descriptor: int, text: bytes) -> None:
    """Wait until this text was written to the terminal."""
    seen, deadline = b"", time.monotonic() + PATIENCE_S
    while text not in seen:
        readable, _, _ = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))
        assert readable, seen
        seen += os.read(descriptor, 65536)
