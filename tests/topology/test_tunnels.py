"""Interfaces without an Ethernet header, like VPNs, PPP and tunnels, by means of a TUN device."""

import contextlib
import struct
from collections.abc import Iterator

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import dropped, settle, settle_sent
from .daemons import serving
from .deaths import kill
from .frames import Flow, Tun, internet_checksum, udp_packet
from .lab import Lab
from .namespaces import Namespace
from .relays import Ingress, relaying
from .traffic import payloads

OWN, OWN_6 = "10.120.0.1", "fd78::1"
FAR, FAR_6 = "10.120.0.2", "fd78::2"
FLOWS = {4: Flow(FAR, "239.1.120.1", 5001), 6: Flow(FAR_6, "ff15::120:1", 5001)}
OUTPUTS = {4: "239.2.120.1", 6: "ff15::120:2"}
SIZES = (1400, 0, 17, 1472 - 20, 64)
SEGMENT_BYTES, SEGMENTS = 700, 40
PROTOCOL_TCP = 6
MORE_FRAGMENTS = 0x2000


@contextlib.contextmanager
def tunnel(lab: Lab, name: str = "vpn0", *, gro: bool = True) -> Iterator[Tun]:
    """A TUN device of the relay host, with addresses of both families."""
    with Tun(lab.relay, name, f"{OWN}/24", f"{OWN_6}/64", gro=gro) as device:
        yield device


def fragments(packet: bytes, at: int) -> Iterator[bytes]:
    """An IPv4 packet in two fragments, the first with this much of its payload."""
    for offset, body, flag in (
        (0, packet[20 : 20 + at], MORE_FRAGMENTS),
        (at, packet[20 + at :], 0),
    ):
        header = bytearray(packet[:20])
        struct.pack_into(">HHH", header, 2, 20 + len(body), 7, flag | offset // 8)
        header[10:12] = bytes(2)
        struct.pack_into(">H", header, 10, internet_checksum(bytes(header)))
        yield bytes(header) + body


def refusals(namespace: Namespace) -> int:
    """How often a host has answered that something cannot be reached, by either ICMP."""
    names, numbers = (
        line.split() for line in namespace.proc_net("snmp").splitlines() if "Icmp:" in line
    )
    counts = dict(zip(names, numbers, strict=True))
    counts |= dict(line.split() for line in namespace.proc_net("snmp6").splitlines())
    return int(counts["OutDestUnreachs"]) + int(counts["Icmp6OutDestUnreachs"])


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("gro", [True, False], ids=["gro", "ring"])
def test_what_comes_in_by_a_tunnel_is_relayed(
    lab: Lab, ingress: Ingress, version: int, gro: bool
) -> None:
    """Single datagrams of all sizes, super-frames and fragments, in order, and nothing else."""
    flow, output = FLOWS[version], OUTPUTS[version]
    single = payloads(200, SIZES)
    merged = payloads(SEGMENTS, (SEGMENT_BYTES,), seed=2)
    long, last = payloads(1, (3000,), seed=3), payloads(1, (100,), seed=4)
    stranger = bytearray(udp_packet(flow, b"not UDP"))
    stranger[9 if version == 4 else 6] = PROTOCOL_TCP
    with (
        tunnel(lab, gro=gro) as vpn,
        lab.receive(output, 6001) as receiver,
        relaying(
            lab.relay, f"{flow.group}%vpn0:5001 to {output}%out0:6001", ingress=ingress
        ) as relay,
    ):
        vpn.send(flow, *single)
        vpn.send_super(flow, merged)
        vpn.send_packet(bytes(stranger))
        if version == 4:
            for fragment in fragments(udp_packet(flow, long[0]), 1600):
                vpn.send_packet(fragment)
        vpn.send(flow, *last)
        expected = [*single, *merged, *(long if version == 4 else []), *last]
        receiver.expect(expected)
        stats = settle_sent(relay, len(expected))
        (interface,), (rule,) = stats.interfaces, stats.rules
        assert (interface.name, interface.ingress) == ("vpn0", ingress)
        assert interface.received == interface.matched == len(expected)
        assert rule.state == f"flowing from {flow.source}"
        assert not any("no interface" in warning for warning in relay.warnings), relay.warnings


def test_damage_is_counted_and_a_ring_survives_a_long_frame(lab: Lab) -> None:
    """By the reasons of any interface; ports and sources likewise."""
    flow = FLOWS[4]
    with (
        tunnel(lab, gro=False) as vpn,
        lab.receive("239.2.120.2", 6001) as receiver,
        relaying(
            lab.relay,
            f"{FAR}@{flow.group}%vpn0:5001 to 239.2.120.2%out0:6001",
            ingress="packet",
            workers=2,
        ) as relay,
    ):
        vpn.send_packet(udp_packet(flow, b"damaged", checksum=0x1234))
        vpn.send(Flow(flow.source, flow.group, 5002), b"other port")
        vpn.send(Flow("10.120.0.3", flow.group, 5001), b"other source")
        for fragment in fragments(udp_packet(flow, bytes(20_000)), 1200):
            vpn.send_packet(fragment)
        sent = payloads(300, SIZES)
        vpn.send(flow, *sent)
        receiver.expect([bytes(20_000), *sent])
        stats = settle(relay, lambda stats: stats.interfaces[0].received == len(sent) + 4)
        for reason in ("bad_checksum", "no_rule", "source"):
            assert dropped(stats, "vpn0", reason) == 1, reason


@pytest.mark.parametrize("version", [4, 6])
def test_an_input_for_an_address_of_a_tunnel(lab: Lab, ingress: Ingress, version: int) -> None:
    """Its rule needs no interface, and the host does not answer that the port is closed."""
    flow = FLOWS[version]
    own = OWN if version == 4 else OWN_6
    written = own if version == 4 else f"[{own}]"
    sent = payloads(20, (300,))
    with (
        tunnel(lab) as vpn,
        lab.receive(OUTPUTS[version], 6001) as receiver,
        relaying(
            lab.relay, f"{written}:5001 to {OUTPUTS[version]}%out0:6001", ingress=ingress
        ) as relay,
    ):
        before = refusals(lab.relay)
        vpn.send(Flow(flow.source, own, 5001), *sent)
        receiver.expect(sent)
        settle_sent(relay, len(sent))
        assert refusals(lab.relay) == before


def test_copies_leave_by_a_tunnel(lab: Lab, ingress: Ingress, gro: bool) -> None:
    """To groups and to hosts of both families, from the tunnel's own addresses."""
    sent = payloads(60, (900,))
    with (
        tunnel(lab) as vpn,
        relaying(
            lab.relay,
            "239.1.120.3%in0:5001 to 239.2.120.3%vpn0:6001 ff15::120:3%vpn0:6002"
            f" {FAR}:6003 [{FAR_6}]:6004 {FAR}%vpn0:6005,source=keep,sport=keep",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.120.3", 5001, source=("10.1.0.2", 4321)) as sender,
    ):
        (sender.send_super if gro else sender.send)(sent)
        settle_sent(relay, *[len(sent)] * 5)
        left = vpn.expect_each({port: sent for port in range(6001, 6006)})
        assert {packet[12:16] for packet in left[6001] + left[6003]} == {bytes([10, 120, 0, 1])}
        assert {packet[8:24] for packet in left[6002] + left[6004]} == {
            bytes.fromhex("fd78") + bytes(13) + b"\1"
        }
        assert {packet[12:16] for packet in left[6005]} == {bytes([10, 1, 0, 2])}


def test_the_traffic_tools_use_a_tunnel(lab: Lab) -> None:
    """`Sender` sends by it and `Receiver` hears it."""
    with tunnel(lab) as vpn, lab.relay:
        with mcr.Sender("239.1.120.4%vpn0:5004", size_bytes=100) as sender:
            assert sender.send(count=3).sent == 3
        flow = Flow(FAR, "239.1.120.5", 5005)
        with mcr.Receiver(f"{flow.group}%vpn0:5005") as receiver:
            vpn.send(flow, b"one", b"two")
            assert receiver.receive(count=2, duration_s=5).received == 2


def test_a_tunnel_without_multicast_is_named_with_its_cure(lab: Lab, ingress: Ingress) -> None:
    """WireGuard's and GRE's interfaces are made so; what the message says makes them work."""
    flow = FLOWS[4]
    rule = f"{flow.group}%vpn0:5001 to 239.2.120.6%out0:6001"
    with tunnel(lab) as vpn, lab.receive("239.2.120.6", 6001) as receiver:
        lab.relay.ip("link", "set", "vpn0", "multicast", "off")
        cure = "ip link set vpn0 multicast on"
        with pytest.raises(mcr.RuleError, match=cure), relaying(lab.relay, rule):
            pass
        with lab.relay:
            (finding,) = [one for one in mcr.diagnose(rule) if one.fix == cure]
        assert (finding.severity, finding.interface) == ("problem", "vpn0")
        lab.relay.ip(*cure.split()[1:])
        with relaying(lab.relay, rule, ingress=ingress) as relay:
            vpn.send(flow, b"one", b"two")
            receiver.expect([b"one", b"two"])
            settle_sent(relay, 2)


@pytest.mark.parametrize(
    ("ingress", "gro"),
    [("packet", True), ("packet", False), ("udp", True)],
    ids=["packet", "ring", "udp"],
)
def test_a_daemon_relays_from_a_tunnel(lab: Lab, ingress: Ingress, gro: bool) -> None:
    """Also after a worker's death, and when the tunnel was torn down and comes up again."""
    flow = FLOWS[4]
    sent = payloads(40, SIZES)
    with (
        lab.receive("239.2.120.7", 6001) as receiver,
        serving(lab.relay, "--ingress", ingress) as daemon,
        daemon.client() as client,
    ):
        with tunnel(lab, gro=gro) as vpn:
            client.add_rule(f"{flow.group}%vpn0:5001 to 239.2.120.7%out0:6001")
            (device,) = [one for one in client.interfaces() if one.name == "vpn0"]
            assert [str(address) for address in device.addresses][:2] == [OWN, OWN_6]
            vpn.send(flow, *sent)
            vpn.send_super(flow, sent[:1] * 3)
            receiver.expect([*sent, *sent[:1] * 3])
            (worker,) = daemon.workers
            kill(worker)
            wait_until(lambda: daemon.workers not in ([], [worker]))
            receiver.forget()
            vpn.send(flow, *sent)
            receiver.expect(sent)
        state = "unresolved: there is no interface vpn0"
        wait_until(lambda: client.rules().rules[0].state == state)
        receiver.forget()
        with tunnel(lab, gro=gro) as vpn:
            wait_until(lambda: client.rules().rules[0].state != state)
            vpn.send(flow, *sent)
            receiver.expect(sent)
