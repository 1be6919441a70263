#!/usr/bin/env bash
# pysflow 0.1.2 (PyPI) ignores the length that stands in front of each sFlow record. A record of a
# kind that it does not know makes an error of the whole datagram, with the other samples in it, and
# hosts and switches send such kinds all the time: the counters of a CPU, those of a LAG port. So
# does a known record that has grown at its end, as the format allows: its rest is taken for the
# head of the next record.
# sFlow version 5, section 5: implementors may add to the end of a structure without a new number,
# and receivers "must always use the opaque length information"; so they can skip what they do not
# know.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pysflow==0.1.2
"$folder/venv/bin/python" -W ignore::DeprecationWarning - <<'PYTHON'
import struct

import sflow

COUNTERS_SAMPLE, VLAN_COUNTERS, LAG_PORT = 2, 5, 7
PACKETS = 4242


def wrap(kind, body):
    return struct.pack("!2I", kind, len(body)) + body


def count_vlan(vlan, multicast, added=b""):
    return wrap(VLAN_COUNTERS, struct.pack("!IQ4I", vlan, 10**6, 0, multicast, 0, 0) + added)


def sample(*records):
    head = struct.pack("!3I", 1, 1, len(records))
    return wrap(COUNTERS_SAMPLE, head + b"".join(records))


def send(*samples):
    head = struct.pack("!2I4s4I", 5, 1, bytes([192, 0, 2, 1]), 0, 1, 1000, len(samples))
    return head + b"".join(samples)


def read(datagram):
    """The multicast counters by VLAN, or what keeps pysflow from reading the datagram."""
    try:
        samples = sflow.decode(datagram)["samples"]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    counters = [one for sample in samples for one in sample["counters"]]
    return {one["vlan_id"]: one["multicastPkts"] for one in counters}


plain = sample(count_vlan(10, 1)), sample(count_vlan(20, PACKETS))
lag = sample(wrap(LAG_PORT, bytes(56))), sample(count_vlan(20, PACKETS))
grown = (sample(count_vlan(10, 1, added=bytes(4)), count_vlan(20, PACKETS)),)
found = [read(send(*samples)) for samples in (plain, lag, grown)]
for name, value in zip(("known records", "with a LAG port", "a grown record"), found):
    print(f"{name}: {value}")
raise SystemExit(
    found[0] != {10: 1, 20: PACKETS}
    or not isinstance(found[1], str)
    or not isinstance(found[2], str)
)
PYTHON
