#!/usr/bin/env bash
# asterix4py 1.0.6 (PyPI) decodes all data blocks of a datagram with the category of the first. Radars
# and trackers multicast datagrams of several blocks, often of different categories; every other
# block then comes out as items of the wrong category, with plausible values and without an error:
# the time of a system track becomes a plot in polar coordinates, a few miles from the radar.
# EUROCONTROL-SPEC-0149, ASTERIX part 1: each data block has its own category and length, and blocks
# may follow one another in one message.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check asterix4py==1.0.6
"$folder/venv/bin/python" - <<'PYTHON'
import struct

from asterix4py import AsterixParser

PLOTS, TRACKS = 48, 62
SAC, SIC, NOON = 25, 201, 12 * 3600 * 128


def build_block(category, record):
    return struct.pack("!BH", category, 3 + len(record)) + record


def decode(datagram):
    return AsterixParser(datagram).get_result()


source, time_of_day = bytes([SAC, SIC]), NOON.to_bytes(3)
plot = build_block(PLOTS, b"\xc0" + source + time_of_day)
track = build_block(TRACKS, b"\x90" + source + time_of_day)
(alone,) = decode(track).values()
_, after_plot = decode(plot + track).values()
print("the track in a datagram of its own:", alone)
print("the same block after one of plots: ", after_plot)
is_right = alone["cat"] == TRACKS and alone["070"] == {"ToT": NOON / 128}
is_wrong = after_plot["cat"] == PLOTS and set(after_plot) == {"cat", "010", "040"}
raise SystemExit(not (is_right and is_wrong))
PYTHON
