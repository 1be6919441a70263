"""The reasons for which an interface discards datagrams, by what they say of these."""

PARSE_ERRORS = (
    "truncated",
    "not_ip",
    "not_udp",
    "fragment",
    "bad_length",
    "bad_header",
    "bad_checksum",
    "truncated_by_us",
)
"""A datagram that cannot be read, or not as a whole."""

MISMATCHES = (
    "vlan",
    "no_rule",
    "source",
    "disabled",
    "not_for_us",
    "duplicate",
    "late",
    "out_of_sequence",
)
"""A datagram that no enabled rule wants, or not any more."""
