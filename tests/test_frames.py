"""`mcr.parse_frame` with any bytes, and with frames that scapy builds, intact and damaged."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

import mcr

REASONS = {
    "bad_checksum",
    "bad_header",
    "bad_length",
    "fragment",
    "not_ip",
    "not_udp",
    "truncated",
    "vlan",
}
MAX_VID = 4094
MAX_IPV4_OPTIONS = 40

ports = st.integers(0, 65535)
tags = st.sampled_from([Dot1Q, Dot1AD])
v6_extensions = st.sampled_from([IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt])


@dataclass(frozen=True, slots=True)
class Built:
    """A frame and its content."""

    frame: bytes
    source: IPv4Address | IPv6Address
    group: IPv4Address | IPv6Address
    source_port: int
    port: int
    ttl: int
    dscp: int
    vlan: int
    payload: bytes


def assembled(layers: Sequence[Packet]) -> bytes:
    """Stack the layers and write the frame, lengths and checksums computed by scapy."""
    frame = layers[0]
    for layer in layers[1:]:
        frame = frame / layer
    return bytes(frame)


@st.composite
def tagging(draw: st.DrawFn) -> tuple[list[Packet], int]:
    """No tag, one tag, or a priority tag before or after one; and the VLAN that they name."""
    vid = draw(st.integers(0, MAX_VID))
    identifiers = draw(st.sampled_from([[], [vid], [0, vid], [vid, 0]]))
    layers = [draw(tags)(vlan=one, prio=draw(st.integers(0, 7))) for one in identifiers]
    return layers, vid if identifiers else 0


@st.composite
def built(draw: st.DrawFn, longest: int = 2000) -> Built:
    """A valid frame without padding."""
    layers, vlan = draw(tagging())
    ttl, dscp = draw(st.integers(1, 255)), draw(st.integers(0, 63))
    source_port, port = draw(ports), draw(ports)
    payload = draw(st.binary(max_size=longest))
    source: IPv4Address | IPv6Address
    group: IPv4Address | IPv6Address
    if draw(st.booleans()):
        source, group = IPv4Address(draw(st.integers(0, 2**32 - 1))), IPv4Address("239.1.1.1")
        options = [IPOption_NOP()] * draw(st.integers(0, MAX_IPV4_OPTIONS))
        network = [IP(src=str(source), dst=str(group), ttl=ttl, tos=dscp << 2, options=options)]
    else:
        source, group = IPv6Address(draw(st.integers(0, 2**128 - 1))), IPv6Address("ff3e::1")
        extensions = [kind() for kind in draw(st.lists(v6_extensions, max_size=8))]
        network = [IPv6(src=str(source), dst=str(group), hlim=ttl, tc=dscp << 2), *extensions]
    transport = [UDP(sport=source_port, dport=port), Raw(payload)]
    frame = assembled([Ether(src="02:00:00:00:00:01"), *layers, *network, *transport])
    return Built(frame, source, group, source_port, port, ttl, dscp, vlan, payload)


def reason(frame: bytes) -> str:
    """The reason for which the frame is refused."""
    parsed = mcr.parse_frame(frame)
    assert isinstance(parsed, mcr.Discard), parsed
    return parsed.reason


def check_any(frame: bytes) -> None:
    """Parse any bytes: the result is a datagram within them, or a reason."""
    parsed = mcr.parse_frame(frame)
    if isinstance(parsed, mcr.Discard):
        assert parsed.reason in REASONS
    else:
        assert parsed.payload in frame
        assert 0 <= parsed.vlan <= MAX_VID + 1


@given(st.binary(max_size=200))
@example(b"")
def test_any_bytes_are_a_datagram_or_a_reason(frame: bytes) -> None:
    """Random bytes never raise an exception."""
    check_any(frame)


@given(built(longest=100), st.data())
def test_a_damaged_frame_is_a_datagram_or_a_reason(frame: Built, data: st.DataObject) -> None:
    """Nor do frames with a few damaged bytes, which are parsed further."""
    damaged = bytearray(frame.frame)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    check_any(bytes(damaged))


@given(built(), st.binary(max_size=60))
def test_a_built_frame_is_parsed(frame: Built, padding: bytes) -> None:
    """All fields are equal, and padding is not part of the datagram."""
    parsed = mcr.parse_frame(frame.frame + padding)
    assert isinstance(parsed, mcr.Datagram), parsed
    for field in ("source", "group", "source_port", "port", "ttl", "dscp", "vlan", "payload"):
        assert getattr(parsed, field) == getattr(frame, field), field


@given(built(longest=40))
def test_every_truncation_is_truncated(frame: Built) -> None:
    """A valid frame cut anywhere is refused as `truncated`, never parsed short."""
    cuts = {length: reason(frame.frame[:length]) for length in range(len(frame.frame))}
    assert set(cuts.values()) == {"truncated"}, cuts


IPV4, IPV6 = IP(src="10.0.0.5", dst="239.1.1.1"), IPv6(src="2001:db8::5", dst="ff3e::1")
DATAGRAM = UDP(sport=4000, dport=5001) / Raw(b"payload")


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (Ether() / ARP(), "not_ip"),
        (Ether() / IP(dst="239.1.1.1", proto=2) / Raw(bytes(8)), "not_udp"),
        (Ether() / IP(dst="239.1.1.1", flags="MF") / DATAGRAM, "fragment"),
        (Ether() / IP(dst="239.1.1.1", frag=3, proto=17) / Raw(bytes(16)), "fragment"),
        (Ether() / IPV6 / IPv6ExtHdrFragment(m=1) / DATAGRAM, "fragment"),
        (Ether() / IP(dst="239.1.1.1", chksum=1) / DATAGRAM, "bad_header"),
        (Ether() / IP(dst="239.1.1.1", version=5) / DATAGRAM, "bad_header"),
        (Ether() / IPV4 / UDP(len=7) / Raw(b"payload"), "bad_length"),
        (Ether() / IPV4 / UDP(len=99) / Raw(b"payload"), "bad_length"),
        (Ether() / IPV4 / UDP(chksum=1) / Raw(b"payload"), "bad_checksum"),
        (Ether() / IPV6 / UDP(chksum=0) / Raw(b"payload"), "bad_checksum"),
        (Ether() / Dot1AD(vlan=8) / Dot1Q(vlan=7) / IPV4 / DATAGRAM, "vlan"),
    ],
)
def test_each_reason(frame: Packet, expected: str) -> None:
    """A frame with one fault has the reason of that fault."""
    assert reason(bytes(frame)) == expected
