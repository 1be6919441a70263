#!/usr/bin/env bash
# pymidi 0.5.0 (PyPI) knows four MIDI commands in an RTP packet. A pitch bend, a program change or
# any other ends the list: all bytes behind it become its parameters. A note that is let go in the
# same packet is never off, and sounds on; senders put into one packet what is played at one time.
# The time between two commands is wrong from 128 ticks on, as its octets are taken in the reverse
# order: 200 ticks, 20 ms, become almost a second.
# RFC 6295, section 3: a MIDI list holds any MIDI commands, each with a delta time behind the one
# before; a delta time of several octets has the highest bits first.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pymidi==0.5.0 construct==2.10.70
"$folder/venv/bin/python" - <<'PYTHON'
import struct

from pymidi.packets import MIDIPacket

NOTE_ON, NOTE_OFF, BEND_BACK = b"\x90\x3c\x64", b"\x80\x3c\x40", b"\xe0\x00\x40"
NOW, LATER = b"\x00", b"\x81\x48"


def read(*commands):
    """Name of each command and the time before it, in ticks."""
    midi = b"".join(commands)
    header = struct.pack("!BBHIIB", 0x80, 0xE1, 1, 0, 0x1234_5678, len(midi))
    entries = MIDIPacket.parse(header + midi).command.midi_list
    return [(str(entry.command), entry.delta_time) for entry in entries]


alone = read(NOTE_OFF)
behind = read(BEND_BACK, NOW, NOTE_OFF)
later = read(NOTE_ON, LATER, NOTE_OFF)
print("a note let go:", alone)
print("the same behind a pitch bend:", behind)
print("a note let go 200 ticks after it was struck:", later)
is_lost = alone == [("note_off", None)] and "note_off" not in dict(behind)
raise SystemExit(not (is_lost and dict(later)["note_off"] not in (None, 200)))
PYTHON
