#!/usr/bin/env bash
# pypacker 5.4 (PyPI) cuts a datagram into fragments with new headers: create_fragments() copies
# identification, protocol and addresses, but every fragment has TTL 64 and TOS 0, and no options.
# Multicast with TTL 1, which must stay on its link, may then pass routers, and media marked EF
# travels as best effort.
# RFC 791, section 3.2: a fragment takes over the datagram's header; lengths, flags, offset and
# checksum change, and of the options only those without the copy bit stay behind.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pypacker==5.4
"$folder/venv/bin/python" - <<'PYTHON'
from pypacker.layer3 import ip
from pypacker.layer4 import udp

EXPEDITED_FORWARDING = 46 << 2
ROUTER_ALERT = ip.IPOptMulti(type=0x94, len=4, body_bytes=bytes(2))


def describe(packet):
    header = packet.bin()
    header_bytes = (header[0] & 0x0F) * 4
    return {"tos": header[1], "ttl": header[8], "header": header_bytes}


datagram = ip.IP(
    id=7, ttl=1, tos=EXPEDITED_FORWARDING, p=17, src_s="10.0.0.1", dst_s="239.1.1.1"
) + udp.UDP(sport=5000, dport=5000, body_bytes=bytes(2000))
datagram.opts.append(ROUTER_ALERT)
whole = describe(datagram)
fragments = [describe(fragment) for fragment in datagram.create_fragments()]
print("datagram: ", whole)
print("fragments:", fragments)
expected_whole = {"tos": EXPEDITED_FORWARDING, "ttl": 1, "header": 24}
raise SystemExit(
    not (whole == expected_whole and fragments == [{"tos": 0, "ttl": 64, "header": 20}] * 2)
)
PYTHON
