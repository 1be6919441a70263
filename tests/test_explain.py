"""Datagrams in words, captures, and explanations without a daemon."""

import io
import json
import random
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import CookedLinux, Dot1Q, Ether
from scapy.utils import wrpcap, wrpcapng

import mcr
from mcr.cli import main
from mcr.explain.captures import FRAME_LIMIT_BYTES, CapturedFrame, read_capture
from mcr.explain.explainer import explain_rules
from mcr.explain.words import parse_datagram

RULE = "10.0.0.5@239.1.1.1%eth9:5001,name=a to 239.2.0.1%eth9:6001,ttl=keep"
BLOCK = "239.1.1.0/24%eth9:5001,name=b to 239.2.0.2%eth9:6001"
IP_PACKET = IP(src="10.0.0.5", dst="239.1.1.1", ttl=4) / UDP(sport=4000, dport=5001)
ETHERNET = {"src": "02:00:00:00:00:01", "dst": "01:00:5e:01:01:01"}
PACKET = Ether(**ETHERNET) / IP_PACKET / bytes(100)
FRAME = bytes(PACKET)


def words(text: str) -> mcr.DatagramFacts:
    """The datagram that a text names."""
    return parse_datagram(text)


def test_words() -> None:
    """All parts, and only the necessary ones; the text of a datagram reads as the same."""
    full = words("10.0.0.5:4000@239.1.1.1%eth0:5001 ttl=4 vlan=7 dscp=46 size=1200")
    assert full == mcr.DatagramFacts(
        ip_address("239.1.1.1"), 5001, "eth0", ip_address("10.0.0.5"), 4000, 4, 46, 7, 1200
    )
    assert words("ff3e::2%eth0:5001").source is None
    assert words("fe80::1@ff3e::2%eth0:5001").source == ip_address("fe80::1")
    assert words("[fe80::1]:7@[ff3e::2]%eth0:5001,ttl=3").source_port == 7
    for text in ("ff3e::2%eth0:1", "[fe80::1]:7@ff3e::2%eth0:5001 vlan=5", "1.2.3.4@239.1.1.1%a:9"):
        assert words(str(words(text))) == words(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "group: missing"),
        ("ttl=4", "group: missing"),
        ("239.1.1.1:5001", "interface: missing"),
        ("239.1.1.1%eth0", "port: missing"),
        ("239.1.1.0/24%eth0:5001", "group: 239.1.1.0/24 is a block"),
        ("239.1.1.1%eth0:5001-5002", "port: is a range"),
        ("x@239.1.1.1%eth0:5001", "source: 'x' is not an IP address"),
        ("fe80::1@239.1.1.1%eth0:5001", "source: fe80::1 is IPv6"),
        ("fe80::1%eth0@ff15::1%eth0:5001", "source: 'fe80::1%eth0' has a zone"),
        ("1.2.3.4:70000@239.1.1.1%eth0:5001", "source_port: 70000 is out of range: 0 to 65535"),
        ("239.1.1.1%eth0:5001 ttl=256", "ttl: 256 is out of range: 0 to 255"),
        ("239.1.1.1%eth0:5001 sise=1", "sise: is not an option; did you mean 'size'?"),
        ("239.1.1.1%eth0:5001 ttl=1 ttl=2", "ttl: is given twice"),
        ("239.1.1.1%eth0:5001 size=-1", "size: needs a number"),
    ],
)
def test_wrong_words_name_the_field(text: str, problem: str) -> None:
    """One sentence with the field."""
    with pytest.raises(mcr.RuleError) as error:
        words(text)
    assert problem in str(error.value)


def test_a_datagram_may_have_any_values_of_its_headers() -> None:
    """A capture may hold port 0; an address with a zone is none of a header."""
    explainer, _ = explain_rules([RULE], "packet")
    port_0 = mcr.DatagramFacts(ip_address("239.1.1.1"), 0, "eth9", ip_address("239.9.9.9"), ttl=0)
    assert explainer.explain(port_0).verdict == "no_rule"
    with pytest.raises(mcr.RuleError, match="has a zone"):
        explainer.explain(mcr.DatagramFacts(ip_address("ff02::1%eth9"), 1, "eth9"))
    with pytest.raises(mcr.RuleError, match="interface"):
        explainer.explain(mcr.DatagramFacts(ip_address("ff02::1"), 1, "a/b"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The exit code and the output of `mcr explain` with two rules."""
    code = main(["explain", *arguments, "--rule", RULE, "--rule", BLOCK])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_explains_rules_that_do_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Relayed, shadowed, and nothing at all; also as JSON."""
    code, out, _ = run(capsys, "10.0.0.5:4000@239.1.1.1%eth9:5001", "ttl=4", "size=100")
    assert code == 0
    assert "relayed by 1 rule" in out
    assert "(shadowed): it would match, but a comes first" in out
    assert "lost as no_carrier: there is no interface eth9" in out
    code, out, _ = run(capsys, "10.0.0.6@239.1.1.1%eth9:5001", "--json")
    answer = json.loads(out)
    assert (code, answer["verdict"]) == (0, "relayed")
    assert [rule["name"] for rule in answer["rules"]] == ["b"]
    assert [(each["name"], each["reason"]) for each in answer["others"]] == [("a", "source")]
    code, out, _ = run(capsys, "239.1.1.1%eth8:5001")
    assert code == 1
    assert "(no_rule)" in out
    assert "it listens on eth9, not on eth8" in out
    assert run(capsys)[0] == 2


def pcap(path: Path, *packets: object) -> None:
    """Write a capture."""
    wrpcap(str(path), list(packets))


def pcapng(path: Path, *packets: object) -> None:
    """Write a capture."""
    wrpcapng(str(path), list(packets))


@pytest.mark.parametrize("write", [pcap, pcapng])
def test_captures(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, write: Callable[..., None]
) -> None:
    """The datagrams of a capture, each once, and its other frames by reason."""
    path = tmp_path / "capture"
    tagged = Ether(**ETHERNET) / Dot1Q(vlan=7) / IP_PACKET / bytes(10)
    wrong = bytearray(FRAME)
    wrong[-1] ^= 1
    write(path, PACKET, PACKET, tagged, Ether(**ETHERNET, type=0x88CC), Ether(bytes(wrong)))
    code, out, _ = run(capsys, "-r", str(path), "--interface", "eth9", "--json")
    answer = json.loads(out)
    assert (code, answer["frames"], answer["more"]) == (0, 5, 0)
    assert [(each["frames"], each["first"]) for each in answer["datagrams"]] == [(2, 1), (1, 3)]
    first, second = (each["explanation"] for each in answer["datagrams"])
    assert (first["verdict"], first["datagram"]["size_bytes"]) == ("relayed", 100)
    assert (second["verdict"], second["datagram"]["vlan"]) == ("vlan", 7)
    discarded = {each["reason"]: each["first"] for each in answer["discarded"]}
    assert discarded == {"not_ip": 4, "bad_checksum": 5}
    code, out, _ = run(
        capsys, "-r", str(path), "--interface", "eth9", "--json", "--accept-bad-checksums"
    )
    assert json.loads(out)["datagrams"][0]["frames"] == 3
    code, _, error = run(capsys, "-r", str(path))
    if write is pcap:
        assert "does not say on which interface" in error
    assert run(capsys, "-r", str(tmp_path / "none"))[0] == 2


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A block of pcapng."""
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", 12 + len(body))
    return struct.pack(f"{order}I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    """The block with which a section begins."""
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(name: str, link: int = 1, order: str = "<") -> bytes:
    """A block that describes an interface."""
    text = name.encode()
    option = struct.pack(f"{order}HH", 2, len(text)) + text + bytes(-len(text) % 4)
    return block(1, struct.pack(f"{order}HHI", link, 0, 0) + option + bytes(4), order)


def enhanced(
    which: int,
    data: bytes,
    original: int | None = None,
    order: str = "<",
    flags: int | None = None,
) -> bytes:
    """A block with a frame."""
    lengths = (len(data), original or len(data))
    body = struct.pack(f"{order}IIIII", which, 0, 0, *lengths) + data
    if flags is not None:
        body += bytes(-len(body) % 4) + struct.pack(f"{order}HHIHH", 2, 4, flags, 0, 0)
    return block(6, body, order)


def frames_of(data: bytes) -> list[CapturedFrame]:
    """The frames of a capture."""
    return list(read_capture(io.BytesIO(data)))


def test_pcapng_names_interfaces_and_has_sections() -> None:
    """Two interfaces, unknown blocks, a frame cut short, a second section of the other order."""
    capture = section() + interface("eth0") + interface("lo", 276) + block(0xBAD, b"?" * 40)
    capture += enhanced(1, bytes(20) + FRAME[14:]) + enhanced(0, FRAME[:60], len(FRAME))
    capture += section(">") + interface("eth1", 101, ">") + enhanced(0, FRAME[14:], order=">")
    found = frames_of(capture)
    assert [frame.interface for frame in found] == ["lo", "eth0", "eth1"]
    assert [frame.network for frame in found] == [20, None, 0]
    assert [frame.is_whole for frame in found] == [True, False, True]
    assert len(found[1].data) == len(FRAME)


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_the_host_itself_sent_is_not_explained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, order: str
) -> None:
    """Only counted, unless the command says that the frames arrive somewhere."""
    path = tmp_path / "capture"
    frames = [enhanced(0, FRAME, order=order, flags=flags) for flags in (None, 1, 6, 2, 0)]
    path.write_bytes(section(order) + interface("eth9", order=order) + b"".join(frames))
    assert [each.is_outbound for each in frames_of(path.read_bytes())] == [0, 0, 1, 1, 0]
    for arguments, explained, outbound in (((), 3, 2), (("--interface", "eth9"), 5, 0)):
        code, out, _ = run(capsys, "-r", str(path), *arguments, "--json")
        answer = json.loads(out)
        assert (code, answer["frames"], answer["outbound"]) == (0, 5, outbound)
        assert [each["frames"] for each in answer["datagrams"]] == [explained]
    _, out, _ = run(capsys, "-r", str(path))
    assert "2 frames sent by the host of the capture are not explained\n5 frames read" in out


def test_link_types(tmp_path: Path) -> None:
    """Cooked frames and bare IP, as tcpdump writes them for any interface and for tunnels."""
    path = tmp_path / "capture"
    wrpcap(str(path), [CookedLinux(proto=0x0800) / IP_PACKET / b"abc"])
    (frame,) = frames_of(path.read_bytes())
    assert frame.network == 16
    with pytest.raises(ValueError, match="link type 147"):
        frames_of(section() + interface("x", 147) + enhanced(0, FRAME))


@pytest.mark.parametrize(
    ("capture", "problem"),
    [
        (b"", "is not a capture"),
        (b"hello", "is not a capture"),
        (section()[:-3], "ends within"),
        (section() + enhanced(0, FRAME), "does not describe"),
        (section() + struct.pack("<II", 6, 0xFFFFFFF0), "has a block of"),
        (section() + struct.pack("<II", 9, 0xFFFFFFF0) + bytes(99), "ends within"),
        (section() + struct.pack("<II", 6, 5), "has a block of 5 bytes"),
        (section() + interface("a") + block(6, bytes(8)), "too short"),
        (section() + interface("a") * 4097, "more than 4096 interfaces"),
        (bytes.fromhex("d4c3b2a1") + bytes(16) + b"\1\0\0\0" + bytes(8) + b"\xff" * 8, "frame 1"),
        (bytes.fromhex("d4c3b2a1") + bytes(16) + b"\1\0\0\0" + bytes(7), "ends within frame 1"),
    ],
)
def test_damaged_captures_end_with_a_sentence(capture: bytes, problem: str) -> None:
    """No length in a file makes the reader allocate or wait for more than there is."""
    with pytest.raises(ValueError, match=problem):
        frames_of(capture)


def damaged(seed: int) -> bytes:
    """A capture with some bytes changed."""
    noise = random.Random(seed)
    capture = bytearray(section() + interface("eth0") + enhanced(0, FRAME) + enhanced(0, FRAME))
    for _ in range(noise.randrange(1, 8)):
        capture[noise.randrange(len(capture))] = noise.randrange(256)
    return bytes(capture[: noise.randrange(len(capture) + 1)])


@given(st.one_of(st.binary(max_size=200), st.integers(0, 2**32).map(damaged)))
def test_any_bytes_are_read_or_refused(capture: bytes) -> None:
    """Nothing but ValueError, and frames of a bounded size."""

    def frames() -> Iterator[CapturedFrame]:
        try:
            yield from read_capture(io.BytesIO(capture))
        except ValueError:
            return

    assert all(len(frame.data) <= FRAME_LIMIT_BYTES for frame in frames())


def test_rates_of_outputs_are_noted() -> None:
    """What a rate does to the copies, for each output of the matching rules that has one."""
    outputs = (
        "239.2.0.1%lo:6001 239.2.0.2%lo:6002,rate=50mbit 239.2.0.3%lo:6003,rate=2kpps,queue=5ms"
        " 239.2.0.4%lo:6004,rate=2kpps,pace=on"
    )
    explainer, _ = explain_rules([f"239.1.1.1%lo:5001 to {outputs}"], "udp")
    notes = explainer.explain("192.0.2.1@239.1.1.1%lo:5001").notes
    assert notes == (
        "239.2.0.2%lo:6002 sends at most 50mbit; what exceeds it is dropped as rate_limited",
        "239.2.0.3%lo:6003 sends at most 2kpps; what exceeds it waits up to 5ms, and is dropped as"
        " queue_full if that is not enough",
        "239.2.0.4%lo:6004 sends at most 2kpps in evenly spaced copies; what exceeds it waits up to"
        " 20ms, and is dropped as queue_full if that is not enough",
    )
    assert explainer.explain("192.0.2.1@239.1.1.2%lo:5001").notes == ()


def test_the_class_of_a_rule_is_noted() -> None:
    """Where the rate of an interface limits it."""
    with mcr.Relay(
        "239.1.1.1%lo:5001,name=feed,class=live to 239.2.0.1%lo:6001 239.2.0.2%lo:6001",
        ingress="udp",
        classes=[mcr.TrafficClass("live", priority=7, weight=2)],
    ) as relay:
        (before,) = relay.explain("239.1.1.1%lo:5001")
        relay.set_interface_rate(mcr.InterfaceRate("lo", "50mbit"))
        (after,) = relay.explain("239.1.1.1%lo:5001")
    assert set(after.notes) - set(before.notes) == {
        "lo sends at most 50mbit; feed is in the class live (priority 7, weight 2), and what"
        " exceeds the share of the class is dropped as class_limited"
    }


@pytest.mark.parametrize(
    ("merge", "note"),
    [
        ("rtp", "only if no other of its inputs has delivered it; else it is a duplicate"),
        ("failover", "only if it sends this input now; else it is a duplicate"),
    ],
)
def test_each_input_of_a_merging_rule_is_explained(merge: str, note: str) -> None:
    """All of them have the outputs of the rule."""
    rule = f"239.1.1.1%lo:5001 + 239.1.1.2%lo:5002,name=pair,merge={merge} to 239.2.0.1%lo:6001"
    explainer, _ = explain_rules([rule], "udp")
    for datagram in ("192.0.2.1@239.1.1.1%lo:5001", "192.0.2.1@239.1.1.2%lo:5002"):
        found = explainer.explain(datagram)
        assert found.verdict == "relayed"
        assert [each.name for each in found.rules] == ["pair"]
        assert [str(copy.destination) for copy in found.rules[0].outputs] == ["239.2.0.1"]
        assert found.notes == (f"pair relays it {note}",)
    other = explainer.explain("192.0.2.1@239.1.1.2%lo:5001")
    assert (other.verdict, [each.reason for each in other.others]) == ("no_rule", ["port"])
