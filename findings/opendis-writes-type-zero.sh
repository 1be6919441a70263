#!/usr/bin/env bash
# opendis 1.0 (PyPI) writes each PDU as one of type 0, "other", and of protocol family 0. The
# classes have the right numbers, but the constructor of the header puts a 0 before them in each
# object. The datagram of a fire or a detonation has all its fields, and no simulation takes it for
# one: the package's own createPdu() returns None for it. With pduType and protocolFamily set by
# hand in each object, it is understood.
# IEEE 1278.1-2012, section 6.2.66: the header has the type of the PDU and its protocol family.
# SISO-REF-010, UID 4 and 5: Fire is type 2, Detonation 3, and both are of family 2, Warfare.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check opendis==1.0
"$folder/venv/bin/python" - <<'PYTHON'
import io

from opendis.DataOutputStream import DataOutputStream
from opendis.dis7 import DetonationPdu, FirePdu
from opendis.PduFactory import createPdu

TYPE, FAMILY = 2, 3


def write(pdu):
    pdu.pduStatus = 0
    stream = io.BytesIO()
    pdu.serialize(DataOutputStream(stream))
    return stream.getvalue()


def read(data):
    return type(createPdu(data)).__name__


is_so = True
for kind in (FirePdu, DetonationPdu):
    plain, helped = kind(), kind()
    helped.pduType, helped.protocolFamily = kind.pduType, kind.protocolFamily
    data, helped_data = write(plain), write(helped)
    print(f"{kind.__name__}: type {data[TYPE]}, family {data[FAMILY]}, read as {read(data)};")
    print(f"with {kind.pduType} and {kind.protocolFamily} by hand: {read(helped_data)}")
    is_so &= data[TYPE] == data[FAMILY] == 0 and read(data) == "NoneType"
    is_so &= read(helped_data) == kind.__name__
raise SystemExit(not is_so)
PYTHON
