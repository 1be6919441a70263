#!/usr/bin/env bash
# klvdata 0.0.3 (PyPI) takes one octet for the tag of each item in a local set of MISB metadata.
# From 128 on a tag has two; then the second is taken for the length, and what follows is cut in the
# wrong places. Behind the storage capacity (133) and the leap seconds (136), the number of seconds
# becomes the tag of an item: a corner of the picture that the encoder never sent. Both items are
# gone, and so is the checksum. Nothing raises here; with other values of these items ValueError
# does, and the whole set is lost.
# MISB ST 0107, KLV Metadata in Motion Imagery: the tag of an item in a local set is a BER-OID
# number, seven bits in each octet, the highest bit set in all but the last. stanag4609 0.4.0 (PyPI)
# writes and reads it so.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check klvdata==0.0.3 stanag4609==0.4.0
"$folder/venv/bin/python" - <<'PYTHON'
import klvdata.misb0601
from klvdata.streamparser import StreamParser
from stanag4609 import decode_uas_local_set, encode_uas_local_set

CHECKSUM, TIME, LATITUDE, LONGITUDE, VERSION = 1, 2, 13, 14, 65
CORNER, CAPACITY, LEAP_SECONDS = 28, 133, 136
PLAIN = {TIME: 1_700_000_000_000_000, LATITUDE: 50.0, LONGITUDE: 8.5, VERSION: 19}


def read(values):
    """Name and value of each item that klvdata finds, by tag."""
    packet = encode_uas_local_set(values)
    decoded = decode_uas_local_set(packet)
    assert all(decoded.value(tag) is not None for tag in values)
    (own,) = StreamParser(packet)
    assert isinstance(own, klvdata.misb0601.UASLocalMetadataSet)
    return {key[0]: (item.name, str(item.value)) for key, item in own.items.items()}


plain = read(PLAIN)
more = read(PLAIN | {CAPACITY: 50, LEAP_SECONDS: 28})
print("set without tags above 127:", *plain.values())
print("what two such tags change:", {tag: more[tag] for tag in more.keys() - plain.keys()})
print("tags that are lost:", plain.keys() - more.keys())
is_right = plain.keys() == PLAIN.keys() | {CHECKSUM}
is_invented = CORNER in more and more[CORNER][0] == "OffsetCornerLatitudePoint2"
raise SystemExit(not (is_right and is_invented and CHECKSUM not in more))
PYTHON
