#!/usr/bin/env bash
# netflume 0.6.0 (PyPI) reports records as lost that arrived. IPFIX numbers its data records. Those of
# a template that is not known yet cannot be decoded; the package counts their sets as deferred, but
# leaves the records out of the expected number, and so reports each of them as an export that never
# arrived. Over UDP a template is repeated only every few minutes, so a new one makes such a gap.
# RFC 7011, section 3.1: the number is that of all records sent in the stream; section 8.4: templates
# over UDP are sent again at intervals.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check netflume==0.6.0
"$folder/venv/bin/python" - <<'PYTHON'
import struct

from netflume import Decoder

OCTETS, KNOWN, UNKNOWN = 1, 256, 257
decoder, sent = Decoder(), 0


def build_set(set_id, body):
    return struct.pack("!HH", set_id, 4 + len(body)) + body


def export(sets, records):
    global sent
    header = struct.pack("!HHIII", 10, 16 + len(sets), 1_700_000_000, sent, 0)
    sent += records
    decoder.decode(header + sets, "192.0.2.1")


three = struct.pack("!QQQ", 1, 2, 3)
export(build_set(2, struct.pack("!HHHH", KNOWN, 1, OCTETS, 8)), records=0)
for _ in range(3):
    export(build_set(KNOWN, three), records=3)
before = decoder.stats["missed_exports"]
for _ in range(10):
    export(build_set(UNKNOWN, three), records=3)
export(build_set(KNOWN, three), records=3)
missed, deferred = decoder.stats["missed_exports"], decoder.stats["deferred"]
print(f"reported as lost before: {before}; sets without a template: {deferred}")
print(f"records reported as lost, of {sent} that all arrived: {missed}")
raise SystemExit(not (before == 0 and deferred == 10 and missed == 30))
PYTHON
