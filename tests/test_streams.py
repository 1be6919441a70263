"""Session descriptions and announcements of any form, and the kinds of streams."""

from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mcr
from mcr.cli import main
from mcr.cli.sdp_rules import rules_of_sdp
from mcr.streams.kinds import StreamClassifier
from mcr.streams.listener import LinkListener
from mcr.streams.sap import AnnouncementTable
from mcr.streams.sdp import SdpError, parse_sdp

TWO = """v=0
o=- 1 1 IN IP4 10.0.0.5
s=ST 2110, camera 1
t=0 0
a=group:DUP primary secondary
m=video 50000 RTP/AVP 112
c=IN IP4 239.100.9.10/32
a=source-filter: incl IN IP4 239.100.9.10 192.168.100.2
a=rtpmap:112 raw/90000
a=mid:primary
m=video 50020 RTP/AVP 112
c=IN IP4 239.101.9.10/32
a=source-filter: incl IN IP4 * 192.168.101.2
a=mid:secondary
"""


def test_two_paths_of_one_essence() -> None:
    """As ST 2022-7 describes them (RFC 7104): each with its own group, port and sender."""
    name, (one, two) = parse_sdp(TWO)
    assert name == "ST 2110, camera 1"
    assert (str(one.group), one.port, one.format) == ("239.100.9.10", 50000, "112 raw/90000")
    assert one.sources == (ip_address("192.168.100.2"),)
    assert two.sources == (ip_address("192.168.101.2"),)


@pytest.mark.parametrize(
    ("text", "streams"),
    [
        ("v=0\nc=IN IP4 239.1.1.1/1/3\nm=audio 5004/2 RTP/AVP 0\n", 3),
        ("v=0\nc=IN IP6 ff15::1/2\nm=audio 5004 RTP/AVP 0\n", 2),
        ("v=0\nc=IN IP4 239.1.1.1/1/999999\nm=audio 5004 RTP/AVP 0\n", 64),
        ("v=0\nc=IN IP4 239.255.255.255/1/9\nm=audio 5004 RTP/AVP 0\n", 9),
    ],
)
def test_several_groups(text: str, streams: int) -> None:
    """A connection may have several; a hostile number is bounded."""
    assert len(parse_sdp(text)[1]) == streams


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not begin with v=0"),
        ("<xml/>", "not begin with v=0"),
        ("v=0\ns=x\n", "no multicast stream"),
        ("v=0\nc=IN IP4 10.0.0.5\nm=audio 5004 RTP/AVP 0\n", "no multicast stream"),
        ("v=0\nc=IN IP4 239.1.1.1\nm=audio 0 RTP/AVP 0\n", "no multicast stream"),
        ("v=0\nc=IN IP4 239.1.1.1\nm=audio 70000 RTP/AVP 0\n", "no multicast stream"),
        (
            "v=0\nc=IN IP4 239.1.1.1\na=source-filter: excl IN IP4 * 10.0.0.5\nm=audio 1 R 0\n",
            "excludes sources",
        ),
    ],
)
def test_descriptions_without_a_stream_say_why(text: str, problem: str) -> None:
    """One sentence."""
    with pytest.raises(SdpError, match=problem):
        parse_sdp(text)


lines = st.sampled_from(
    [*TWO.splitlines(), "m=", "c=IN IP4 /", "a=source-filter:", "c=IN IP6 ff15::1/x", "m=a 1 b 2"]
)


@given(st.one_of(st.text(max_size=200), st.lists(lines, max_size=20).map("\n".join)))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but SdpError."""
    try:
        _, streams = parse_sdp(f"v=0\n{text}")
    except SdpError:
        return
    assert 0 < len(streams) <= 64


@given(st.lists(st.binary(max_size=120), max_size=30))
def test_any_message_is_no_announcement_or_a_bounded_one(messages: list[bytes]) -> None:
    """And no stream is made of it."""
    table, classifier = AnnouncementTable(), StreamClassifier()
    for message in messages:
        table.add("eth0", message)
        table.add("eth0", b"\x20\x00\x00\x01\x0a\x00\x00\x05" + message)
        classifier.add(message)
    assert len(table.all()) <= 1
    classifier.result()


def test_rules_of_a_description(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One for each stream, with its source filter and a name; problems are one line."""
    file = tmp_path / "camera.sdp"
    file.write_text(TWO)
    assert rules_of_sdp(str(file), "eth0", "%eth1,ttl=8") == [
        "192.168.100.2@239.100.9.10%eth0:50000,name=ST-2110-camera-1-1"
        " to 239.100.9.10%eth1:50000,ttl=8",
        "192.168.101.2@239.101.9.10%eth0:50020,name=ST-2110-camera-1-2"
        " to 239.101.9.10%eth1:50020,ttl=8",
    ]
    for arguments, problem in [
        (["--sdp", str(file), "--interface", "eth0", "--to", "192.0.2.7:7000"], "has 2 streams"),
        (["--sdp", str(file)], "give rules, or --sdp"),
        (["--sdp", "/no/such", "--interface", "eth0", "--to", "%eth1"], "cannot be read"),
        (["--sdp", str(file), "--interface", "eth0", "--to", "%"], "must be an output"),
    ]:
        assert main(["rule", "add", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert problem in error


def test_a_missing_interface_is_named() -> None:
    """Before anything is opened."""
    with pytest.raises(mcr.InterfaceError, match="'no-such-interface'"):
        LinkListener(["no-such-interface"])
