#!/usr/bin/env bash
# netflow 0.12.2 (PyPI) ignores the enterprise number of an IPFIX element and names it after the
# public element with the same number. A record of both directions of a flow has the counters of the
# way back under enterprise 29305 and the numbers of the way there: both become octetDeltaCount, one
# is lost, and it need not be the one of the way back.
# RFC 5103, section 6.1; RFC 7011, section 3.2: the enterprise number is a part of the identifier.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check netflow==0.12.2
"$folder/venv/bin/python" - <<'PYTHON'
import struct

import netflow

OCTET_DELTA_COUNT, ENTERPRISE, REVERSE = 1, 0x8000, 29305
TEMPLATE_SET, TEMPLATE = 2, 256


def build_set(set_id, body):
    return struct.pack("!HH", set_id, 4 + len(body)) + body


def read_flow(forward, reverse):
    template = struct.pack("!HHHH", TEMPLATE, 2, OCTET_DELTA_COUNT, 8)
    template += struct.pack("!HHI", ENTERPRISE | OCTET_DELTA_COUNT, 8, REVERSE)
    sets = build_set(TEMPLATE_SET, template)
    sets += build_set(TEMPLATE, struct.pack("!QQ", forward, reverse))
    message = struct.pack("!HHIII", 10, 16 + len(sets), 1_700_000_000, 0, 0) + sets
    (flow,) = netflow.parse_packet(message, {"netflow": {}, "ipfix": {}}).flows
    return flow.data


there, back = read_flow(forward=1000, reverse=7), read_flow(forward=7, reverse=1000)
print("1000 octets there, 7 back:", there)
print("7 octets there, 1000 back:", back)
raise SystemExit(there != {"octetDeltaCount": 1000} or back != {"octetDeltaCount": 1000})
PYTHON
