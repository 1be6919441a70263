#!/usr/bin/env bash
# FFmpeg 9.0.2 (in imageio-ffmpeg 0.8.1, PyPI) stamps the RTP packets of a transport stream with the
# presentation time of the frame inside. With B-frames, or with audio beside the video, the stamps
# go back and forth by up to a tenth of a second, packet by packet. A meter that computes the jitter
# as RFC 3550 has it then shows some thirty milliseconds on a stream that is sent evenly, and a
# receiver that orders or paces by the stamp plays it wrongly.
# RFC 2250, section 2: the stamp is the target transmission time of the packet's first byte, on the
# clock of the PCR, so it never goes back; RFC 3550, section 6.4.1: the interarrival jitter.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI; the traffic stays
# on the loopback interface.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check imageio-ffmpeg==0.8.1
"$folder/venv/bin/python" - <<'PYTHON'
import itertools
import socket
import struct
import subprocess
import time

import imageio_ffmpeg

CLOCK = 90_000
PICTURES = ["-re", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25"]
SOUND = ["-re", "-f", "lavfi", "-i", "sine=sample_rate=48000"]


def receive(options):
    packets = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0.5)
        url = f"rtp://127.0.0.1:{receiver.getsockname()[1]}"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-nostdin", *options]
        command += ["-t", "4", "-muxrate", "1000k", "-f", "rtp_mpegts", url]
        sender = subprocess.Popen(command)
        while sender.poll() is None:
            try:
                packet = receiver.recv(2048)
            except TimeoutError:
                continue
            packets.append((time.monotonic(), *struct.unpack_from("!HI", packet, 2)))
    assert sender.returncode == 0 and len(packets) > 100
    return packets


def measure(options):
    backwards, farthest, jitter = 0, 0, 0.0
    for (then, number, stamp), (now, next_number, next_stamp) in itertools.pairwise(
        receive(options)
    ):
        assert next_number == (number + 1) % 2**16
        step = (next_stamp - stamp + 2**31) % 2**32 - 2**31
        backwards += step < 0
        farthest = min(farthest, step)
        jitter += (abs((now - then) * CLOCK - step) - jitter) / 16
    print(f"steps back: {backwards}, up to {-farthest * 1000 // CLOCK} ms; ", end="")
    print(f"jitter: {jitter * 1000 / CLOCK:.0f} ms for {options[-1]}")
    return backwards, -farthest


plain = measure([*PICTURES, "-c:v", "mpeg2video"])
mixed = measure([*PICTURES, *SOUND, "-c:v", "mpeg2video", "-bf", "2", "-c:a", "mp2"])
raise SystemExit(not (plain[0] == 0 and mixed[0] > 20 and mixed[1] >= CLOCK // 25))
PYTHON
