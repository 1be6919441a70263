#!/usr/bin/env bash
# FFmpeg 9.0.2 (in imageio-ffmpeg 0.8.1, PyPI) sends RTP from the interface that "localaddr" names,
# but the parity packets that protect it (prompeg, SMPTE 2022-1) leave where the routing table says,
# from another source address. "ttl" reaches the columns of the parity, not the rows, which keep the
# default, 16. On a host with a media network and another one, receivers get a stream without its
# protection, the other network carries the parity, and no message tells.
# SMPTE 2022-1 has the parity in ports 2 and 4 above those of the media, for the same receivers. The
# documentation names "localaddr" and "ttl" for rtp, and for prompeg nothing but l and d:
# https://ffmpeg.org/ffmpeg-protocols.html#prompeg
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Linux, root, iproute2, Python 3.11 and
# PyPI; the traffic stays in a network namespace of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check imageio-ffmpeg==0.8.1
unshare --net sh -eu -c '
for name in office media; do
    ip link add "$name" type veth peer name "$name-peer"
    ip link set "$name" up
    ip link set "$name-peer" up
done
ip address add 192.0.2.1/24 dev office
ip address add 198.51.100.1/24 dev media
ip route add default dev office
exec "$0" -' "$folder/venv/bin/python" <<'PYTHON'
import socket
import struct
import subprocess

import imageio_ffmpeg

GROUP, PORT, TTL, IPV4 = "239.1.1.1", 5004, 32, 0x0800
COLUMNS, ROWS = PORT + 2, PORT + 4
URL = f"rtp://{GROUP}:{PORT}?localaddr=198.51.100.1&ttl={TTL}"
SENDER = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-nostdin"]
SENDER += ["-re", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25", "-t", "2"]
SENDER += ["-c:v", "mpeg2video", "-b:v", "1M", "-muxrate", "1500k"]
SENDER += ["-f", "rtp_mpegts", "-fec", "prompeg=l=5:d=5", URL]

seen = {}
with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(IPV4)) as wire:
    wire.settimeout(1)
    sender = subprocess.Popen(SENDER)
    while sender.poll() is None:
        try:
            packet, (name, *_) = wire.recvfrom(2048)
        except TimeoutError:
            continue
        (port,) = struct.unpack_from("!H", packet, 22)
        if packet[9] == socket.IPPROTO_UDP and port in (PORT, COLUMNS, ROWS):
            source = socket.inet_ntoa(packet[12:16])
            seen.setdefault(port, set()).add((name.removesuffix("-peer"), source, packet[8]))
for port in sorted(seen):
    print(f"port {port}: (interface, source, TTL) {sorted(seen[port])}")
expected = {
    PORT: {("media", "198.51.100.1", TTL)},
    COLUMNS: {("office", "192.0.2.1", TTL)},
    ROWS: {("office", "192.0.2.1", 16)},
}
raise SystemExit(sender.returncode != 0 or seen != expected)
PYTHON
