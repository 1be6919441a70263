#!/usr/bin/env bash
# sacn 1.11.0 (PyPI) keeps one sequence number for a universe, not one for each of its sources. Two
# consoles of the same priority may send one universe, each counting for itself. While the numbers
# of one lie up to 19 below those of the other, the receiver takes all of its packets for late ones
# and drops them: its changes never show, although nothing is lost.
# ANSI E1.31, section 6.7.2: a receiver compares the number with the last one of that source.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sacn==1.11.0
"$folder/venv/bin/python" - <<'PYTHON'
from sacn.messages.data_packet import DataPacket
from sacn.receiving.receiver_handler import ReceiverHandler, ReceiverHandlerListener


class Listener(ReceiverHandlerListener):
    def __init__(self):
        self.levels = set()

    def on_availability_change(self, universe, changed):
        pass

    def on_dmx_data_change(self, packet):
        self.levels.add(packet.dmxData[0])


def levels_seen(second_starts_at):
    listener = Listener()
    receiver = ReceiverHandler("", 0, listener, socket=object())
    for step in range(50):
        for cid, start, level in ((1, 100, 10), (2, second_starts_at, 20)):
            packet = DataPacket(
                (cid,) * 16, f"console {cid}", 1, (level,), sequence=(start + step) % 256
            )
            receiver.on_data(bytes(packet.getBytes()), step / 40)
    return sorted(listener.levels)


apart, near = levels_seen(second_starts_at=200), levels_seen(second_starts_at=95)
print("levels seen, the second console's numbers far from the first's:", apart)
print("levels seen, the second console five numbers behind:", near)
raise SystemExit(apart != [10, 20] or near != [10])
PYTHON
