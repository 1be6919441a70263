"""Datagrams with the packet of a tunnel, in which a virtual link left work to the hardware."""

import contextlib
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from .checks import dropped, settle, settle_sent
from .frames import Flow, Injector, Tap, internet_checksum, udp_frame
from .lab import Lab
from .namespaces import Namespace
from .relays import Ingress, relaying
from .traffic import Receiver, Sender, payloads

INNER_PORT = 5555
GSO_TCPV4, GSO_UDP, GSO_TCPV6, GSO_UDP_L4 = 1, 3, 4, 5
TCP_CHECKSUM, UDP_CHECKSUM = 16, 6
V4 = (Flow("10.1.0.2", "239.1.190.1", 4789), "239.2.190.1", 42)
V6 = (Flow("fd01::2", "ff15::190:1", 4789), "ff15::190:2", 62)


@contextlib.contextmanager
def vxlan(
    namespace: Namespace, interface: str, group: str, address: str, port: int
) -> Iterator[None]:
    """A VXLAN interface `vx` whose flood group is sent and heard on an interface."""
    namespace.ip(
        *("link", "add", "vx", "type", "vxlan", "id", "7", "group", group),
        *("dev", interface, "dstport", str(port), "ttl", "4"),
    )
    try:
        namespace.set_up("vx", up=True)
        namespace.address("vx", address)
        yield
    finally:
        namespace.ip("link", "del", "vx")


@pytest.mark.parametrize(
    ("group", "out"),
    [("239.1.191.1", "239.2.191.1"), ("ff15::191:1", "ff15::191:2")],
    ids=["v4", "v6"],
)
@pytest.mark.parametrize(
    ("ingress", "offload"),
    [("packet", False), ("packet", True), ("udp", True)],
    ids=["packet-plain", "packet-gro", "udp-gro"],
)
def test_overlay(lab: Lab, ingress: Ingress, offload: bool, group: str, out: str) -> None:
    """What programs say to each other over VXLAN arrives as it was sent, one by one or at once.

    One by one only `packet` can know what is missing: a socket is told of sizes alone.
    """
    lab.set_offload(on=offload)
    singles, supers = payloads(20, (1000,), seed=1), payloads(60, (1000,), seed=2)
    wanted = [*singles, *supers] if ingress == "packet" else supers
    rule = f"{group}%in0:4789 to {out}%out0:4789,ttl=4"
    with (
        relaying(lab.relay, rule, ingress=ingress) as relay,
        vxlan(lab.source, "s0", group, "192.168.7.1/24", 4789),
        vxlan(lab.receiver, "d0", out, "192.168.7.2/24", 4789),
        Receiver(lab.receiver, "vx", "239.5.5.5", INNER_PORT) as receiver,
        Sender(lab.source, "vx", "239.5.5.5", INNER_PORT) as sender,
    ):
        if ingress == "packet":
            sender.send(singles)
        sender.send_super(supers)
        assert receiver.wait_for(len(wanted)) == wanted
        settle(relay, lambda stats: stats.rules[0].outputs[0].sent >= len(wanted))


def tunnelled(inner: Packet, number: int, flags: str, chunk: bytes) -> bytes:
    """One of the TCP segments of 1000 bytes, in VXLAN."""
    tunnel = (
        VXLAN(flags="Instance", vni=7)
        / Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
        / Dot1Q(vlan=9)
    )
    header = inner.copy()
    if header.version == 4:
        header.id = (header.id + number) % 2**16
    at = (2**32 - 1000 + number * 1000) % 2**32  # past the largest number
    return bytes(tunnel / header / TCP(dport=80, seq=at, flags=flags) / Raw(chunk))


@pytest.mark.parametrize(("flow", "output", "payload_at"), [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("inner", [IP(id=65534), IPv6()], ids=["inner-v4", "inner-v6"])
@pytest.mark.parametrize("gro", [False, True], ids=["ring", "multishot"])
def test_tcp_inside(
    lab: Lab, gro: bool, inner: Packet, flow: Flow, output: str, payload_at: int
) -> None:
    """A TCP super-segment in a tunnel is cut into the segments that it stands for."""
    data = payloads(1, (4500,))[0]
    whole = tunnelled(inner, 0, "FPA", data)
    chunks = [data[start : start + 1000] for start in range(0, len(data), 1000)]
    expected = [tunnelled(inner, number, "A", chunk) for number, chunk in enumerate(chunks[:-1])]
    expected.append(tunnelled(inner, len(chunks) - 1, "FPA", chunks[-1]))
    transport = payload_at + len(whole) - len(data) - 20
    kind = GSO_TCPV4 if inner.version == 4 else GSO_TCPV6
    with (
        lab.receive(output, 6001) as receiver,
        Tap(lab.relay, "tap0", gro=gro) as tap,
        relaying(
            lab.relay, f"{flow.group}%tap0:4789 to {output}%out0:6001", ingress="packet"
        ) as relay,
    ):
        for _ in range(3):
            tap.send(
                udp_frame(flow, whole),
                gso_type=kind,
                gso_size=1000,
                checksum=(transport, TCP_CHECKSUM),
            )
        receiver.expect(expected * 3)
        stats = settle_sent(relay, len(expected) * 3)
        assert stats.interfaces[0].received == len(expected) * 3


@pytest.mark.parametrize("gro", [False, True], ids=["ring", "multishot"])
def test_more_of_them_in_a_turn_than_there_is_room_for(lab: Lab, gro: bool) -> None:
    """Datagrams that need their inner checksum keep their order and are all finished."""
    flow, output, payload_at = V4
    tunnel = VXLAN(flags="Instance", vni=7) / Ether(
        dst="02:00:00:00:00:02", src="02:00:00:00:00:01"
    )
    address = IP(src="192.168.7.1", dst="192.168.7.2")
    finished = [
        bytes(tunnel / address / UDP(dport=80) / Raw(payload)) for payload in payloads(300, (200,))
    ]
    field = 8 + 14 + 20 + UDP_CHECKSUM

    def unfinished(payload: bytes) -> bytes:
        pseudo = payload[34:42] + bytes([0, 17]) + payload[46:48]
        partial = internet_checksum(pseudo) ^ 0xFFFF
        return payload[:field] + partial.to_bytes(2, "big") + payload[field + 2 :]

    with (
        lab.receive(output, 6001) as receiver,
        Tap(lab.relay, "tap0", gro=gro) as tap,
        relaying(
            lab.relay, f"{flow.group}%tap0:4789 to {output}%out0:6001", ingress="packet"
        ) as relay,
    ):
        for payload in finished:
            tap.send(udp_frame(flow, unfinished(payload)), checksum=(payload_at + 42, UDP_CHECKSUM))
        receiver.expect(finished)
        settle_sent(relay, len(finished))


@pytest.mark.parametrize("gro", [False, True], ids=["ring", "multishot"])
def test_what_contradicts_itself_is_dropped(lab: Lab, gro: bool) -> None:
    """A guest that says nonsense of its frames loses these, and nothing else."""
    flow, output, payload_at = V4
    body = bytes(range(200)) * 5
    with (
        lab.receive(output, 6001) as receiver,
        Tap(lab.relay, "tap0", gro=gro) as tap,
        relaying(
            lab.relay, f"{flow.group}%tap0:4789 to {output}%out0:6001", ingress="packet"
        ) as relay,
    ):
        for kind, size, checksum in [
            (GSO_TCPV4, 100, (payload_at + 30, TCP_CHECKSUM)),
            (GSO_TCPV6, 100, (payload_at + 60, TCP_CHECKSUM)),
            (GSO_TCPV4, 1, (payload_at + 40, TCP_CHECKSUM)),
            (0, 0, (34, 2)),
        ]:
            frame = udp_frame(flow, body)
            tap.send(frame, gso_type=kind, gso_size=size, checksum=checksum)
        tap.send(udp_frame(flow, b"good"))
        receiver.expect([b"good"])
        stats = settle_sent(relay, 1)
        assert dropped(stats, "tap0", "bad_header") == 4


def test_what_the_host_itself_merged(lab: Lab) -> None:
    """Where the relay's host has a tunnel on that port, GRO merges what is inside: cut it again."""
    lab.set_offload(on=True)
    flow = Flow("10.1.0.2", "239.1.192.1", 4789)
    tunnel = VXLAN(flags="Instance", vni=7) / Ether(
        dst="02:00:00:00:00:02", src="02:00:00:00:00:01"
    )
    sent = [
        bytes(
            tunnel
            / IP(src="192.168.7.1", dst="192.168.7.2", id=number)
            / TCP(dport=80, seq=number * 1000, flags="A")
            / Raw(payload)
        )
        for number, payload in enumerate(payloads(400, (1000,)))
    ]
    frames = [udp_frame(flow, payload, checksum=0) for payload in sent]
    with (
        lab.relay.gathering("in0"),
        # Its socket shares the port with none that was there before.
        vxlan(lab.relay, "in0", "239.1.193.1", "192.168.8.1/24", 4789),
        lab.receive("239.2.192.1", 6001) as receiver,
        relaying(
            lab.relay, "239.1.192.1%in0:4789 to 239.2.192.1%out0:6001", ingress="packet"
        ) as relay,
        Injector(lab.source, "s0") as wire,
    ):
        before = lab.relay.ip_packets()
        wire.send(*frames)
        receiver.expect(sent)
        settle_sent(relay, len(sent))
        assert lab.relay.ip_packets() - before < len(sent), "nothing was merged"
