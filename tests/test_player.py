"""A player of RTP, ffmpeg, behind a rule that merges two feeds, of which each in turn is cut."""

import re
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
from tests.support.deadline import wait_until

if shutil.which("ffmpeg") is None:
    # Not a skipped test, which CI refuses: ffmpeg and what it needs take 400 MB there.
    pytest.skip("no ffmpeg", allow_module_level=True)

EXAMPLE = Path(__file__).parents[1] / "examples" / "cut_feeds.py"
CUTS = 10
CUT_S = 0.2
STREAM_S = 60
STREAM = "rtp://239.2.0.1:6001?localaddr=127.0.0.1"
"""What the example relays to."""
FAULTS = re.compile(r"missed|corrupt|error|invalid|discont|late|jitter", re.IGNORECASE)
"""Words of what ffmpeg says about a stream that lacks packets."""
BEGIN = "Invalid frame dimensions 0x0."
"""What it says of the pictures before the first whole one."""


@pytest.mark.timeout(90)
def test_a_player_sees_no_error_while_each_feed_is_cut_ten_times(tmp_path: Path) -> None:
    """All frames arrive, each one after the one before, and ffmpeg reports no fault."""
    frames, errors = tmp_path / "frames", tmp_path / "errors"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    play = ["ffmpeg", "-nostdin", "-v", "warning", "-copyts", "-i", STREAM, "-map", "0:v"]
    play += ["-f", "framemd5", "-flush_packets", "1", str(frames)]
    make = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=rate=25"]
    make += ["-t", str(STREAM_S), "-c:v", "mpeg2video", "-g", "12", "-b:v", "800k"]
    make += ["-f", "rtp_mpegts", f"rtp://127.0.0.1:{port}?pkt_size=1328"]
    merge = [sys.executable, str(EXAMPLE), "--listen", str(port)]
    merge += ["--cut", str(CUT_S), "--cuts", str(CUTS)]
    with ExitStack() as stack:
        log = stack.enter_context(errors.open("w"))
        for command, stderr in ((play, log), (make, None)):
            process = stack.enter_context(subprocess.Popen(command, stderr=stderr))
            stack.callback(process.terminate)
        done = subprocess.run(merge, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        missing = re.findall(r"missing (\d+)", done.stdout)
        assert [count for count in missing if int(count) > 0] == missing, done.stdout
        expected = 2 * CUTS * 2 * CUT_S * 25 - 25
        wait_until(lambda: len(stamps(frames)) >= expected)
    times = stamps(frames)
    assert {after - before for before, after in pairwise(times)} == {1}
    faults = [line for line in errors.read_text().splitlines() if FAULTS.search(line)]
    assert [line for line in faults if not line.endswith(BEGIN)] == []


def stamps(frames: Path) -> list[int]:
    """The presentation times of the frames, from the first one that was decoded on."""
    if not frames.exists():
        return []
    lines = [line.split(",") for line in frames.read_text().splitlines() if line[:1] == "0"]
    return [int(line[2]) for line in lines if len(line) > 5]
