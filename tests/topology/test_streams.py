"""`mcr streams` sees what is on a link: every datagram counted, kinds and announcements known."""

import json
import struct
import subprocess
import threading
import zlib
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

from tests.support.deadline import wait_until

from mcr.streams.listener import LinkListener
from mcr.streams.results import LinkStream

from .checks import PROCESS_S, settle
from .daemons import MCR, serving
from .frames import Flow, Injector, udp_frame
from .lab import Lab
from .namespaces import Namespace

COUNT = 40
SDP = (
    "v=0\r\no=- 1 1 IN IP4 10.1.0.2\r\ns=Main Feed\r\nt=0 0\r\n"
    "m=video 5004 RTP/AVP 33\r\nc=IN IP4 239.1.75.1/32\r\n"
    "a=source-filter: incl IN IP4 239.1.75.1 10.1.0.2\r\n"
)


def rtp(number: int, body: bytes) -> bytes:
    """An RTP datagram."""
    return struct.pack(">BBHII", 0x80, 33, (65530 + number) % 65536, number * 90, 7) + body


def mold(number: int) -> bytes:
    """A MoldUDP64 datagram with two messages."""
    return b"SESSION001" + struct.pack(">QHH3sH2s", 1 + 2 * number, 2, 3, b"abc", 2, b"de")


TS = (b"\x47" + bytes(187)) * 7
PAYLOADS = {
    ("239.1.75.1", 5004): [rtp(number, TS) for number in range(COUNT)],
    ("239.1.75.2", 5004): [TS] * COUNT,
    ("239.1.75.3", 5004): [mold(number) for number in range(COUNT)],
    ("239.1.75.4", 5004): [rtp(number, bytes(160)) for number in range(COUNT)],
    ("239.1.75.5", 5004): [bytes([number]) * (60 + number) for number in range(COUNT)],
    ("ff15::175:1", 5004): [rtp(number, bytes(160)) for number in range(COUNT)],
}
KINDS = ["rtp-ts", "ts", "mold", "rtp", "unknown", "rtp"]


def announce(lab: Lab, body: bytes, flags: int = 0x20) -> None:
    """Announce a session."""
    message = struct.pack(">BBH4s", flags, 0, 0x1234, ip_address("10.1.0.2").packed) + body
    with lab.sender("239.255.255.255", 9875, source=("10.1.0.2", 0)) as sender:
        sender.send([message])


def seen(listener: LinkListener, group: str) -> LinkStream:
    """The stream of a group."""
    return next(each for each in listener.listen(0.01).streams if each.group == ip_address(group))


def send_all(lab: Lab) -> None:
    """Send each stream, from one socket each."""
    for (group, port), payloads in PAYLOADS.items():
        source = "fd01::2" if ":" in group else "10.1.0.2"
        with lab.sender(group, port, source=(source, 4000)) as sender:
            sender.send(payloads)


def test_streams_are_counted_and_recognized(lab: Lab, gro: bool) -> None:
    """Each with its datagrams, bytes, sizes and kind; also as super-frames and in a VLAN."""
    with ExitStack() as stack:
        with lab.relay:
            listener = stack.enter_context(LinkListener(["in0"]))
        send_all(lab)
        for ((group, port), payloads), kind in zip(PAYLOADS.items(), KINDS, strict=True):
            stream = seen(listener, group)
            assert (stream.datagrams, stream.bytes) == (COUNT, sum(map(len, payloads)))
            assert stream.size_min_bytes == min(map(len, payloads))
            assert stream.size_max_bytes == max(map(len, payloads))
            assert (stream.port, stream.source_port, stream.ttl) == (port, 4000, 8)
            assert (stream.kind, stream.confidence != "none") == (kind, kind != "unknown")
            assert stream.interface == "in0"
        if gro:
            payloads = [bytes([number]) * 900 for number in range(COUNT)]
            with lab.sender("239.1.75.6", 5004) as sender:
                sender.send_super(payloads)
            stream = seen(listener, "239.1.75.6")
            assert (stream.datagrams, stream.bytes) == (COUNT, 900 * COUNT)
            assert (stream.size_min_bytes, stream.size_max_bytes) == (900, 900)
        flow = Flow("10.1.0.2", "239.1.75.7", 5004)
        with Injector(lab.source, "s0") as injector:
            injector.send(udp_frame(flow, b"abc", tags=((0x8100, 5),)))
        assert seen(listener, "239.1.75.7").vlan == 5
        assert listener.listen(0.01).missed_frames == 0


def test_announcements(lab: Lab) -> None:
    """Known by name, also compressed; withdrawn again; hostile ones are skipped."""
    with ExitStack() as stack:
        with lab.relay:
            listener = stack.enter_context(LinkListener(["in0"]))
        for body in (b"", b"\xff" * 900, b"v=0\r\nm=" + b"9" * 999, zlib.compress(bytes(10**7))):
            announce(lab, body)
            announce(lab, body, 0x21)
        announce(lab, b"application/sdp\0" + zlib.compress(b"v=0"), 0xFF)
        assert listener.listen(0.05).announcements == ()
        announce(lab, zlib.compress(b"application/sdp\0" + SDP.encode()), 0x21)
        send_all(lab)
        report = listener.listen(0.05)
        (session,) = report.announcements
        assert (session.name, session.origin) == ("Main Feed", ip_address("10.1.0.2"))
        (stream,) = session.streams
        assert stream.sources == (ip_address("10.1.0.2"),)
        assert seen(listener, "239.1.75.1").name == "Main Feed"
        assert seen(listener, "239.255.255.255").kind == "sap"
        announce(lab, SDP.encode(), 0x24)
        assert listener.listen(0.05).announcements == ()


def run(namespace: Namespace, *arguments: str) -> str:
    """The output of a command in a namespace."""
    words = namespace.command(MCR, *arguments)
    done = subprocess.run(words, capture_output=True, text=True, timeout=PROCESS_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rules_for_what_is_seen_relay_it(lab: Lab, tmp_path: Path) -> None:
    """The command with a daemon: streams without a rule, rules for them, and one from SDP."""
    lab.set_offload(on=False)
    ended = threading.Event()

    def keep_sending() -> None:
        while not ended.wait(0.02):
            send_all(lab)

    sending = threading.Thread(target=keep_sending)
    with ExitStack() as stack:
        daemon = stack.enter_context(serving(lab.relay))
        client = stack.enter_context(daemon.client())
        place = ("--socket", str(daemon.socket))
        sdp = tmp_path / "session.sdp"
        sdp.write_text(SDP)
        add = ("rule", "add", "--sdp", str(sdp), "--interface", "in0", "--to", "%out0,ttl=8")
        run(lab.relay, *add, *place)
        (rule,) = client.rules()
        assert rule.rule == (
            "10.1.0.2@239.1.75.1%in0:5004,name=Main-Feed to 239.1.75.1%out0:5004,ttl=8"
        )
        sending.start()
        try:
            report = json.loads(
                run(lab.relay, "streams", "%in0", "--seconds", "0.5", "--json", *place)
            )
            rules = {each["group"]: each["rules"] for each in report["streams"]}
            assert rules["239.1.75.1"] == ["Main-Feed"]
            assert rules["239.1.75.2"] == rules["ff15::175:1"] == []
            to = ("--rules", "--to", "%out0")
            texts = run(lab.relay, "streams", "%in0", "--seconds", "0.5", *to).splitlines()
            assert "10.1.0.2@239.1.75.2%in0:5004 to 239.1.75.2%out0:5004" in texts
            assert len(texts) == len(PAYLOADS)
            client.replace_rules(texts)
            wait_until(lambda: all(each.matched for each in client.stats().rules))
        finally:
            ended.set()
            sending.join()
        settle(client, lambda stats: all(rule.outputs[0].sent for rule in stats.rules))
