#!/usr/bin/env bash
# ipfix 0.9.7 (PyPI) counts the seconds of a time in microseconds or nanoseconds from 1970. They are
# counted from 1900, as in NTP: a flow that another exporter saw in 2024 is read as one of 2094, and
# what the package writes for 2024 lies in 1954 for other collectors. Times in seconds and in
# milliseconds, which do count from 1970, are right, and nothing tells the difference.
# RFC 7011, sections 6.1.9 and 6.1.10: these two types are encoded as NTP timestamps, whose seconds
# begin at 1 January 1900 (RFC 5905, section 6).
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ipfix==0.9.7
"$folder/venv/bin/python" -W ignore::DeprecationWarning - <<'PYTHON'
import io
import struct
from datetime import datetime, timedelta

import ipfix.ie
import ipfix.reader
import ipfix.template
import ipfix.writer

NTP_EPOCH = datetime(1900, 1, 1)
SEEN = datetime(2024, 5, 1, 12, 30, 0, 500000)
NAMES = ("flowStartMilliseconds", "flowStartMicroseconds")
MILLISECONDS, MICROSECONDS = 152, 154
TEMPLATE = 256

ipfix.ie.use_iana_default()


def count_ntp(time):
    seconds, rest = divmod((time - NTP_EPOCH) // timedelta(microseconds=1), 1_000_000)
    return seconds << 32 | (rest << 32) // 1_000_000


def export(time):
    """A message with a template and a record, as RFC 7011 has it."""
    elements = struct.pack("!4H", MILLISECONDS, 8, MICROSECONDS, 8)
    template = struct.pack("!4H", 2, 8 + len(elements), TEMPLATE, 2) + elements
    since_1970 = (time - datetime(1970, 1, 1)) // timedelta(milliseconds=1)
    record = struct.pack("!2H2Q", TEMPLATE, 20, since_1970, count_ntp(time))
    length = 16 + len(template) + len(record)
    return struct.pack("!2H3I", 10, length, since_1970 // 1000, 0, 1) + template + record


read = next(ipfix.reader.from_stream(io.BytesIO(export(SEEN))).namedict_iterator())
written = io.BytesIO()
writer = ipfix.writer.to_stream(written)
writer.set_domain(1)
writer.add_template(ipfix.template.for_specs(TEMPLATE, *NAMES))
writer.set_export_template(TEMPLATE)
writer.export_namedict(dict.fromkeys(NAMES, SEEN))
writer.flush()
milliseconds, ntp = struct.unpack("!2Q", written.getvalue()[-16:])
meant = NTP_EPOCH + timedelta(seconds=ntp / 2**32)
print(f"sent:    {SEEN}")
for name in NAMES:
    print(f"read:    {read[name]} ({name})")
print(f"written: {meant} (flowStartMicroseconds, counted from 1900)")
off = datetime(1970, 1, 1) - NTP_EPOCH
raise SystemExit(
    read[NAMES[0]] != SEEN
    or abs(read[NAMES[1]] - SEEN - off) > timedelta(milliseconds=1)
    or abs(SEEN - meant - off) > timedelta(milliseconds=1)
    or datetime(1970, 1, 1) + timedelta(milliseconds=milliseconds) != SEEN
)
PYTHON
