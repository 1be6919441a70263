"""Copies to hosts that leave through AF_XDP, also while their neighbours and routes change."""

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest
from tests.support.deadline import wait_until

from .bursts import BurstSender, LinkReceiver
from .egress import (
    MIXED,
    OUT_PORT,
    WARM_S,
    BurstFlow,
    Kind,
    ReadStats,
    expect_all,
    flow,
    relayed,
    rule,
    send_in_bursts,
    send_until,
    sent_counts,
    single_frames,
    wait_for_ways,
    ways,
)
from .lab import Lab
from .namespaces import Net
from .traffic import Marks, Receiver, payloads

SENT = MIXED
DIRECT = {4: "10.2.0.2", 6: "fd02::2"}
BEHIND = {4: "10.9.9.9", 6: "fd09::9"}
OTHER_MAC = "02:00:00:00:00:77"


@pytest.fixture
def lab(_rights: None) -> Iterator[Lab]:
    """A network whose routes and neighbours may change, with hosts behind the receiver."""
    with Net() as net:
        made = Lab.build(net)
        for version, host in BEHIND.items():
            made.receiver.address("lo", f"{host}/{32 if version == 4 else 128}")
            made.relay.ip("route", "add", host, "via", DIRECT[version])
        single_frames(made)
        yield made


def written(host: str) -> str:
    """An output to the host."""
    return f"[{host}]:{OUT_PORT}" if ":" in host else f"{host}:{OUT_PORT}"


@contextlib.contextmanager
def flowing(lab: Lab, kind: Kind, host: str) -> Iterator[tuple[BurstFlow, LinkReceiver, ReadStats]]:
    """A flow whose copies leave through AF_XDP, and what arrives of them."""
    version = 6 if ":" in host else 4
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        relayed(lab, kind, "packet", rule(1, written(host), version=version)) as stats,
        BurstSender(lab.source, "s0") as sender,
        BurstFlow(sender, 1, version) as sending,
    ):
        wait_until(lambda: ways(stats()) == ["xdp"], WARM_S)
        yield sending, link, stats


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("hosts", [DIRECT, BEHIND], ids=["direct", "gateway"])
def test_copies_are_whole_and_in_order(
    lab: Lab, kind: Kind, version: int, hosts: dict[int, str]
) -> None:
    """Contents, headers and checksums are right; batches leave from the same socket address."""
    host = hosts[version]
    text = rule(1, f"{written(host)},ttl=5,dscp=46", version=version)
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        Receiver(lab.receiver, "d0", host, OUT_PORT) as receiver,
        relayed(lab, kind, "packet", text) as stats,
        BurstSender(lab.source, "s0") as sender,
    ):
        send_until(["xdp"], sender, [flow(1, version)], stats)
        warm = sent_counts(stats())[0]
        link.wait_for(warm)
        receiver.wait_for(warm)
        before = {each.source for each in link.seen}
        link.forget()
        receiver.forget()
        send_in_bursts(sender, [flow(1, version)], SENT, stats)
        assert ways(stats()) == ["xdp"]
        seen = link.wait_for(len(SENT))
        receiver.expect(SENT)
        own = "10.2.0.1" if version == 4 else "fd02::1"
        assert link.payloads(OUT_PORT) == SENT
        assert {each.macs for each in seen} == {(lab.receiver.mac("d0"), lab.relay.mac("out0"))}
        assert {each.source[0] for each in seen} == {own}
        assert {each.source for each in seen} == before, "the two ways differ"
        assert {each.destination for each in seen} == {(host, OUT_PORT)}
        assert {each.marks for each in seen} == {Marks(5, 46)}
        assert all(each.has_checksums for each in seen)
        send_until(["batches"], sender, [flow(1, version)], stats, payloads(1024, (200,)))


@pytest.mark.parametrize("version", [4, 6])
def test_a_host_that_gets_another_mac_address(lab: Lab, kind: Kind, version: int) -> None:
    """Copies go to the new address once the host has shown it; none is lost or overtaken."""
    with flowing(lab, kind, DIRECT[version]) as (sending, link, stats):
        old = lab.receiver.mac("d0")
        lab.receiver.ip("link", "set", "d0", "address", OTHER_MAC)
        new = lab.receiver.mac("d0")
        # The host looks for the relay and shows its own address doing so.
        own = "10.2.0.1" if version == 4 else "fd02::1"
        lab.receiver.ip("neigh", "flush", "dev", "d0")
        with lab.receiver:
            show(own)
        wait_until(lambda: link.drain()[-1].macs[0] == new, WARM_S)
        wait_until(lambda: ways(stats()) == ["xdp"], WARM_S)
        sending.advance()
        expect_all(link, sending, stats)
        macs = [each.macs[0] for each in link.seen]
        assert set(macs) == {old, new}
        assert macs == sorted(macs, key=[old, new].index), "it changed once"


def show(address: str) -> None:
    """Send a datagram, for which the kernel resolves its receiver."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"hello", (address, 9))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("hosts", [DIRECT, BEHIND], ids=["direct", "gateway"])
def test_a_neighbour_that_is_forgotten(
    lab: Lab, kind: Kind, version: int, hosts: dict[int, str]
) -> None:
    """It is resolved again; until then the copies take the socket, in order and without loss."""
    with flowing(lab, kind, hosts[version]) as (sending, link, stats):
        for _ in range(3):
            lab.relay.ip("neigh", "del", DIRECT[version], "dev", "out0")
            sending.advance(200)
            wait_until(lambda: state(lab, DIRECT[version]) == "REACHABLE", WARM_S)
            wait_until(lambda: ways(stats()) == ["xdp"], WARM_S)
        expect_all(link, sending, stats)


def test_a_neighbour_that_does_not_answer(lab: Lab, kind: Kind) -> None:
    """The way says so, copies return to the socket, and to AF_XDP with the first answer."""
    lab.relay.sysctl("net.ipv4.neigh.out0.retrans_time_ms", 100)
    with flowing(lab, kind, DIRECT[4]) as (sending, link, stats):
        lab.receiver.ip("link", "set", "d0", "arp", "off")
        lab.relay.ip("neigh", "del", DIRECT[4], "dev", "out0")
        wait_for_ways(stats, "no_neighbour")
        sending.advance(200)
        lab.receiver.ip("link", "set", "d0", "arp", "on")
        wait_until(lambda: ways(stats()) == ["xdp"], WARM_S)
        sending.advance(200)
        sending.stop()
        output = stats().as_dict()["rules"][0]["outputs"][0]
        wait_until(lambda: stats().as_dict()["rules"][0]["outputs"][0]["pending"] == 0)
        output = stats().as_dict()["rules"][0]["outputs"][0]
        assert output["wanted"] == len(sending.sent)
        assert output["sent"] + sum(output["dropped"].values()) == output["wanted"]
        arrived = iter(sending.sent)
        assert all(payload in arrived for payload in link.payloads(OUT_PORT)), "reordered or twice"


def test_the_kernel_confirms_a_neighbour_that_only_frames_are_sent_to(lab: Lab, kind: Kind) -> None:
    """A host that changes its MAC address in silence is found again, as by a socket."""
    for name, value in (
        ("base_reachable_time_ms", 500),
        ("delay_first_probe_time", 1),
        ("retrans_time_ms", 100),
    ):
        lab.relay.sysctl(f"net.ipv4.neigh.out0.{name}", value)
    with flowing(lab, kind, DIRECT[4]) as (sending, link, stats):
        wait_until(lambda: state(lab, DIRECT[4]) in ("DELAY", "PROBE"), WARM_S)
        lab.receiver.ip("link", "set", "d0", "address", OTHER_MAC)
        new = lab.receiver.mac("d0")
        wait_until(lambda: link.drain()[-1].macs[0] == new, WARM_S)
        wait_until(lambda: ways(stats()) == ["xdp"], WARM_S)
        expect_all(link, sending, stats)


def state(lab: Lab, address: str) -> str:
    """The state of a neighbour entry; empty without one."""
    found = json.loads(lab.relay.ip("-j", "neigh", "show", address, "dev", "out0"))
    return str(found[0]["state"][0]) if found else ""


def test_a_next_hop_that_changes(lab: Lab, kind: Kind) -> None:
    """Copies go to the other router; those before it have left."""
    with flowing(lab, kind, BEHIND[4]) as (sending, link, stats):
        lab.relay.ip("neigh", "replace", "10.2.0.3", "lladdr", OTHER_MAC, "dev", "out0")
        lab.relay.ip("route", "change", BEHIND[4], "via", "10.2.0.3")
        new = bytes.fromhex(OTHER_MAC.replace(":", ""))
        wait_until(lambda: link.drain()[-1].macs[0] == new, WARM_S)
        wait_until(lambda: ways(stats()) == ["xdp"], WARM_S)
        expect_all(link, sending, stats)


def test_a_path_with_a_smaller_mtu(lab: Lab, kind: Kind) -> None:
    """A router that reports it has longer IPv6 copies leave by the socket, as fragments."""
    lab.receiver.sysctl("net.ipv6.conf.all.forwarding", 1)
    lab.receiver.ip("link", "set", "d1", "mtu", "1300")
    lab.receiver.ip("route", "add", "fd0a::/64", "dev", "d1")
    lab.receiver.ip("neigh", "add", "fd0a::9", "lladdr", OTHER_MAC, "dev", "d1")
    lab.relay.ip("route", "add", "fd0a::/64", "via", DIRECT[6])
    long = [payload.ljust(1400) for payload in SENT[:64]]
    with (
        relayed(lab, kind, "packet", rule(1, written("fd0a::9"), version=6)) as stats,
        BurstSender(lab.source, "s0") as sender,
    ):
        send_until(["xdp"], sender, [flow(1, 6)], stats)
        send_in_bursts(sender, [flow(1, 6)], long, stats)
        wait_until(lambda: ways_after(sender, stats) == ["batches"], WARM_S)
        before = lab.receiver.frames("d1")[1]
        send_in_bursts(sender, [flow(1, 6)], long, stats)
        wait_until(lambda: lab.receiver.frames("d1")[1] >= before + 2 * len(long), WARM_S)


def ways_after(sender: BurstSender, stats: ReadStats) -> list[str]:
    """The ways after another datagram that is too long for the path."""
    send_in_bursts(sender, [flow(1, 6)], [SENT[0].ljust(1400)], stats)
    return ways(stats())


def test_hosts_that_keep_their_sockets(lab: Lab, kind: Kind) -> None:
    """This host, a broadcast, several next hops, a block: the reason is shown, nothing is lost."""
    several = ("route", "replace", BEHIND[4], "nexthop", "via", "10.2.0.2", "nexthop", "via")
    lab.relay.ip(*several, "10.3.0.2")
    outputs = [
        f"10.2.0.1:{OUT_PORT}",
        f"127.0.0.1:{OUT_PORT}",
        f"10.2.0.255%out0:{OUT_PORT}",
        f"10.9.9.9:{OUT_PORT}",
    ]
    with (
        lab.receive("10.2.0.255", OUT_PORT) as receiver,
        Receiver(lab.relay, "lo", "127.0.0.1", OUT_PORT) as own,
        relayed(lab, kind, "packet", rule(1, *outputs)) as stats,
        BurstSender(lab.source, "s0") as sender,
    ):
        reasons = ["this_host", "this_host", "broadcast", "route"]
        wait_for_ways(stats, *reasons)
        send_in_bursts(sender, [flow(1)], SENT, stats)
        receiver.expect(SENT)
        own.expect(SENT)
        assert (ways(stats()), sent_counts(stats())) == (reasons, [len(SENT)] * 4)
        lab.relay.ip("route", "replace", BEHIND[4], "via", "10.2.0.2")
        wait_for_ways(stats, *reasons[:3], "batches")
