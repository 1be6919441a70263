#!/usr/bin/env bash
# sbedecoder 0.1.10 (PyPI) looks for the groups of a message where its own schema has them. A
# message says how long its block of fields is, so that an exchange can add a field at the end
# without a change in all its receivers. From that day on the package takes the added field for the
# head of the group: the number of entries and all prices in them are wrong, the fields of the block
# are still right, and nothing raises. Within a group, where the same rule holds, it does use the
# length of the message.
# FIX SBE 1.0, "Message schema extension": blockLength of the header is the length that was sent; a
# decoder of an older schema passes over the fields that it does not know, up to the first group.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sbedecoder==0.1.10
cat >"$folder/schema.xml" <<'XML'
<messageSchema xmlns="" package="quotes" id="1" version="1" byteOrder="littleEndian">
  <types>
    <type name="uint8" primitiveType="uint8"/>
    <type name="uint16" primitiveType="uint16"/>
    <type name="uint32" primitiveType="uint32"/>
    <type name="uint64" primitiveType="uint64"/>
    <composite name="messageHeader">
      <type name="blockLength" primitiveType="uint16"/>
      <type name="templateId" primitiveType="uint16"/>
      <type name="schemaId" primitiveType="uint16"/>
      <type name="version" primitiveType="uint16"/>
    </composite>
    <composite name="groupSize">
      <type name="blockLength" primitiveType="uint16"/>
      <type name="numInGroup" primitiveType="uint8"/>
    </composite>
  </types>
  <message name="Quote" id="7" blockLength="8" description="Quote">
    <field name="TransactTime" id="60" type="uint64" offset="0"/>
    <group name="Entries" id="268" blockLength="8" dimensionType="groupSize">
      <field name="Price" id="270" type="uint32" offset="0"/>
      <field name="Size" id="271" type="uint32" offset="4"/>
    </group>
  </message>
</messageSchema>
XML
"$folder/venv/bin/python" - "$folder/schema.xml" <<'PYTHON'
import struct
import sys

from sbedecoder import MDPMessageFactory, MDPSchema, SBEParser

TIME = 1_700_000_000
ENTRIES = [(10025, 300), (10050, 100)]
ADDED = struct.pack("<Q", 0x0301_0008)


def quote(version, added=b"", entry_added=b""):
    """A message that is preceded by its size, as CME's are."""
    block = struct.pack("<Q", TIME) + added
    entries = b"".join(struct.pack("<2I", *entry) + entry_added for entry in ENTRIES)
    group = struct.pack("<HB", 8 + len(entry_added), len(ENTRIES)) + entries
    message = struct.pack("<4H", len(block), 7, 1, version) + block + group
    return struct.pack("<H", 2 + len(message)) + message


def read(data):
    schema = MDPSchema()
    schema.parse(sys.argv[1])
    (message,) = SBEParser(MDPMessageFactory(schema)).parse(data)
    (group,) = message.groups
    found = [(one.price.value, one.size.value) for one in group.repeating_groups]
    return message.transact_time.value, found


known = read(quote(1))
longer_entry = read(quote(2, entry_added=bytes(4)))
longer_block = read(quote(2, added=ADDED))
print(f"schema of the receiver: {known}")
print(f"a field added to the group: {longer_entry}")
print(f"a field added to the block: {longer_block}")
right = (TIME, ENTRIES)
is_wrong = longer_block[0] == TIME and longer_block[1] != ENTRIES and longer_block[1]
raise SystemExit(known != right or longer_entry != right or not is_wrong)
PYTHON
