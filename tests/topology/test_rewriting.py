"""What copies take over from their datagrams: TTL, DSCP, sender and place in a range."""

import socket
from contextlib import ExitStack
from ipaddress import IPv4Address

import pytest

from .checks import dropped, settle, settle_sent
from .frames import Flow, Injector, udp_frame
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import MarkedReceiver, Marks, Sender, payloads

EXPEDITED = 46
ALL_ECN = 3
GROUPS = {4: ("239.1.130.1", "239.2.130.{}"), 6: ("ff15::130:1", "ff15::230:{}")}
SENDERS = 20
BURST = 30
BUFFER_BYTES = 1 << 22
WAYS = [(4, 4), (6, 6), (4, 6), (6, 4)]


@pytest.fixture(params=WAYS, ids=[f"v{one}-v{other}" for one, other in WAYS])
def way(request: pytest.FixtureRequest) -> tuple[int, int]:
    """The IP versions of input and outputs."""
    pair: tuple[int, int] = request.param
    return pair


def mark(sender: Sender, ttl: int, dscp: int) -> None:
    """Have a sender's next datagrams carry these, and every ECN bit, which is not kept."""
    if sender.family == socket.AF_INET:
        sender.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        sender.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2 | ALL_ECN)
    else:
        sender.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
        sender.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, dscp << 2 | ALL_ECN)


def test_ttl_and_dscp(lab: Lab, ingress: Ingress, gro: bool, way: tuple[int, int]) -> None:
    """Each output keeps, counts down or sets; a TTL that is used up is counted as ETIME."""
    group, pattern = GROUPS[way[0]][0], GROUPS[way[1]][1]
    options = ["ttl=keep,dscp=keep", "ttl=decrement", "ttl=5,dscp=10", "dscp=keep"]
    outputs = [f"{pattern.format(n)}%out0:6001,{text}" for n, text in enumerate(options, 1)]
    given = [(9, EXPEDITED), (2, 0), (1, 10), (255, 63), (9, EXPEDITED)]
    parts = [payloads(40, seed=seed) for seed in range(len(given))]
    with ExitStack() as stack:
        receivers = [
            stack.enter_context(MarkedReceiver(lab.receiver, "d0", pattern.format(n), 6001))
            for n, _ in enumerate(options, 1)
        ]
        rule = f"{group}%in0:5001 to {' '.join(outputs)}"
        relay = stack.enter_context(relaying(lab.relay, rule, ingress=ingress))
        sender = stack.enter_context(lab.sender(group, 5001))
        for (ttl, dscp), part in zip(given, parts, strict=True):
            mark(sender, ttl, dscp)
            (sender.send_super if gro else sender.send)(part)
        expected: list[list[tuple[bytes, Marks]]] = [[], [], [], []]
        for (ttl, dscp), part in zip(given, parts, strict=True):
            marks = [Marks(ttl, dscp), Marks(ttl - 1, 0), Marks(5, 10), Marks(1, dscp)]
            for wanted, each in zip(expected, marks, strict=True):
                wanted += [(datagram, each) for datagram in part if each.ttl]
        for receiver, wanted in zip(receivers, expected, strict=True):
            receiver.expect([datagram for datagram, _ in wanted])
            assert receiver.marks == [each for _, each in wanted]
        stats = settle_sent(relay, 200, 160, 200, 200)
        assert [dict(output.errors) for output in stats.rules[0].outputs] == [
            {},
            {"ETIME": 40},
            {},
            {},
        ]


@pytest.mark.parametrize("version", [4, 6])
def test_super_frames_stay_whole(lab: Lab, ingress: Ingress, version: int) -> None:
    """What is kept costs no super-frame its wholeness."""
    lab.set_offload(on=True)
    group, pattern = GROUPS[version]
    sent = payloads(400)
    before = lab.relay.frames("out0")[1]
    with (
        MarkedReceiver(lab.receiver, "d0", pattern.format(1), 6001) as receiver,
        relaying(
            lab.relay,
            f"{group}%in0:5001 to {pattern.format(1)}%out0:6001,ttl=keep,dscp=keep,source=keep",
            ingress=ingress,
        ) as relay,
        lab.sender(group, 5001, source=(lab_address(version, 2), 0)) as sender,
    ):
        mark(sender, 7, EXPEDITED)
        sender.send_super(sent)
        receiver.expect(sent)
        assert set(receiver.marks) == {Marks(7, EXPEDITED)}
        assert {source for source, _ in receiver.sources} == {lab_address(version, 2)}
        settle_sent(relay, len(sent))
    assert lab.relay.frames("out0")[1] - before < len(sent) / 4


def lab_address(version: int, host: int) -> str:
    """An address of the source namespace's first interface."""
    return f"10.1.0.{host}" if version == 4 else f"fd01::{host}"


@pytest.fixture(scope="module")
def crowd(lab: Lab) -> list[int]:
    """Hosts of the source namespace's first interface: twenty more addresses of each version."""
    hosts = list(range(100, 100 + SENDERS))
    for host in hosts:
        lab.source.address("s0", lab_address(4, host) + "/24", lab_address(6, host) + "/64")
    return hosts


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("options", ["source=keep", "source=keep,sport=keep", "sport=keep"])
def test_interleaved_senders(
    lab: Lab, crowd: list[int], ingress: Ingress, version: int, options: str
) -> None:
    """Each copy comes from its own sender, in that sender's order; a plain output is as ever."""
    lab.set_offload(on=False)
    group, pattern = GROUPS[version]
    with ExitStack() as stack:
        receiver = stack.enter_context(lab.receive(pattern.format(1), 6001))
        plain = stack.enter_context(lab.receive(pattern.format(2), 6001))
        rule = f"{group}%in0:5001 to {pattern.format(1)}%out0:6001,{options} {{}}%out0:6001"
        rule = rule.format(pattern.format(2))
        relay = stack.enter_context(relaying(lab.relay, rule, ingress=ingress))
        names = [(lab_address(version, host), 4000 + host) for host in crowd]
        senders = [stack.enter_context(lab.sender(group, 5001, source=name)) for name in names]
        streams = [payloads(50, (1400, 700, 33), seed=seed) for seed in range(SENDERS)]
        for one_of_each in zip(*streams, strict=True):
            for sender, datagram in zip(senders, one_of_each, strict=True):
                sender.send([datagram])
        count = sum(map(len, streams))
        receiver.wait_for(count)
        plain.wait_for(count)
        settle_sent(relay, count, count)
        ((address, _),) = set(plain.sources)
        assert address == relay_address(version)
        number = {datagram: n for n, stream in enumerate(streams) for datagram in stream}
        heard: list[list[bytes]] = [[] for _ in senders]
        for (source, port), datagram in zip(receiver.sources, receiver.collected, strict=True):
            own_address, own_port = names[number[datagram]]
            assert source == (own_address if "source=keep" in options else address)
            assert (port == own_port) == ("sport=keep" in options)
            heard[number[datagram]].append(datagram)
        assert heard == streams


def relay_address(version: int) -> str:
    """The relay's address on its first output."""
    return "10.2.0.1" if version == 4 else "fd02::1"


def test_a_kept_port_with_all_sizes(lab: Lab, ingress: Ingress, way: tuple[int, int]) -> None:
    """Odd lengths, empty ones and the largest pass the receiver's checksum; larger are too big."""
    lab.set_offload(on=False)
    group, target = GROUPS[way[0]][0], GROUPS[way[1]][1].format(1)
    largest = 1472 if way == (4, 4) else 1452
    sizes = (0, 1, 2, 3, 7, 8, 255, 1399, largest - 1, largest)
    sent = payloads(100, sizes)
    with (
        MarkedReceiver(lab.receiver, "d0", target, 6001) as receiver,
        relaying(
            lab.relay,
            f"{group}%in0:5001 to {target}%out0:6001,sport=keep,ttl=decrement,dscp=keep",
            ingress=ingress,
        ) as relay,
        lab.sender(group, 5001) as sender,
    ):
        mark(sender, 44, EXPEDITED)
        sender.send(sent)
        receiver.expect(sent)
        port = sender.socket.getsockname()[1]
        assert set(receiver.sources) == {(relay_address(way[1]), port)}
        assert set(receiver.marks) == {Marks(43, EXPEDITED)}
        stats = settle_sent(relay, len(sent))
        assert stats.rules[0].outputs[0].sent_bytes == sum(map(len, sent))
        if way == (4, 4):
            sender.send(payloads(5, (largest + 1, 60000)))
            last = payloads(1, seed=9)
            sender.send(last)
            receiver.expect(sent + last)
            stats = settle_sent(relay, len(sent) + 1)
            assert stats.rules[0].outputs[0].dropped["too_big"] == 5


@pytest.mark.parametrize("options", ["source=keep", "source=keep,sport=keep,ttl=keep"])
def test_a_host_receives_the_original_sender(
    lab: Lab, ingress: Ingress, gro: bool, options: str
) -> None:
    """A routed copy has its sender's address; a closed port affects no other output."""
    sent = payloads(60, (900,))
    with (
        lab.receive("10.2.0.2", 7000) as receiver,
        relaying(
            lab.relay,
            f"239.1.131.1%in0:5001 to 10.2.0.2:7000,{options} 10.2.0.2:7001,{options}",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.131.1", 5001) as sender,
    ):
        (sender.send_super if gro else sender.send)(sent)
        receiver.expect(sent)
        assert {source for source, _ in receiver.sources} == {"10.1.0.2"}
        settle_sent(relay, len(sent), len(sent))


def test_a_sender_that_no_copy_can_name(lab: Lab) -> None:
    """What cannot be a source is counted by errno, and costs the other senders nothing."""
    lab.set_offload(on=False)
    good = payloads(60)
    with (
        lab.receive("239.2.132.1", 6001) as receiver,
        relaying(
            lab.relay,
            "239.1.132.1%in0:5001 to 239.2.132.1%out0:6001,source=keep",
            ingress="packet",
        ) as relay,
        Injector(lab.source, "s0") as injector,
        lab.sender("239.1.132.1", 5001) as sender,
    ):
        for datagram in good:
            for source in ("127.0.0.1", "0.0.0.0"):
                frame = udp_frame(Flow(source, "239.1.132.1", 5001), b"burst")
                injector.send(*[frame] * BURST)
            sender.send([datagram])
        receiver.expect(good)
        wanted = (2 * BURST + 1) * len(good)
        stats = settle(relay, lambda stats: stats.rules[0].outputs[0].wanted == wanted)
        output = stats.rules[0].outputs[0]
        assert output.sent == len(good)
        refused = BURST * len(good)
        assert dict(output.errors) == {"EINVAL": refused, "EADDRNOTAVAIL": refused}
        assert dropped(stats, "in0", "source") == 0


def test_thousands_of_senders_at_once(lab: Lab) -> None:
    """More flows than a window has lanes for: each copy still comes from its own sender."""
    lab.set_offload(on=False)
    first = int(IPv4Address("10.1.16.0"))
    names = [str(IPv4Address(first + number)) for number in range(3000)]
    with (
        lab.receive("239.2.134.1", 6001) as receiver,
        relaying(
            lab.relay,
            "239.1.134.1%in0:5001 to 239.2.134.1%out0:6001,source=keep",
            ingress="packet",
        ) as relay,
        Injector(lab.source, "s0") as injector,
    ):
        injector.send(
            *(udp_frame(Flow(name, "239.1.134.1", 5001), name.encode()) for name in names)
        )
        receiver.wait_for(len(names))
        settle_sent(relay, len(names))
        heard = [name.encode() for name, _ in receiver.sources]
        assert heard == receiver.collected
        assert sorted(heard) == sorted(name.encode() for name in names)


def test_more_than_the_link_takes_at_once(lab: Lab, ingress: Ingress) -> None:
    """Jumbo datagrams leave in fragments with what they keep; another rule's copies are plain."""
    sent = payloads(120, (8000, 8000, 1400, 1472, 1473, 60000))
    with (
        MarkedReceiver(lab.receiver, "d0", "239.2.135.1", 6001) as receiver,
        lab.receive("239.2.135.2", 6001) as plain,
        relaying(
            lab.relay,
            "239.1.135.1%big:5001 to 239.2.135.1%out0:6001,ttl=decrement,dscp=keep,source=keep",
            "239.1.135.1%big:5001 to 239.2.135.2%out0:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.135.1", 5001, interface="s1", source=("10.4.0.2", 0)) as sender,
    ):
        mark(sender, 20, EXPEDITED)
        sender.send(sent)
        receiver.expect(sent)
        plain.expect(sent)
        assert set(receiver.marks) == {Marks(19, EXPEDITED)}
        assert {source for source, _ in receiver.sources} == {"10.4.0.2"}
        settle_sent(relay, len(sent), len(sent))


def test_reverse_path_filter_of_the_receiving_host(lab: Lab, ingress: Ingress) -> None:
    """A strict filter there drops senders that it would not answer that way; `mcr` cannot know."""
    sent = payloads(30)
    try:
        for name in ("all", "d0"):
            lab.receiver.sysctl(f"net.ipv4.conf.{name}.rp_filter", 1)
        with (
            lab.receive("239.2.133.1", 6001) as kept,
            lab.receive("239.2.133.2", 6001) as own,
            relaying(
                lab.relay,
                "239.1.133.1%in0:5001 to 239.2.133.1%out0:6001,source=keep 239.2.133.2%out0:6001",
                ingress=ingress,
            ) as relay,
            lab.sender("239.1.133.1", 5001) as sender,
        ):
            sender.send(sent)
            own.expect(sent)
            settle_sent(relay, len(sent), len(sent))
            assert kept.drain() == []
    finally:
        for name in ("all", "d0"):
            lab.receiver.sysctl(f"net.ipv4.conf.{name}.rp_filter", 0)


@pytest.mark.parametrize("options", ["", ",source=keep,ttl=keep", ",sport=keep"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_range_begins_with_its_first_place(
    lab: Lab, ingress: Ingress, version: int, options: str
) -> None:
    """A destination that the datagram decides is named with each send, on any kind of socket."""
    lab.set_offload(on=True)
    block, pattern = {
        4: ("239.{}.130.0/28", "239.{}.130.0"),
        6: ("ff15::{}30:0/124", "ff15::{}30:0"),
    }[version]
    sent = payloads(120, (1000,))
    rule = f"{block.format(1)}%in0:5001-5009 to {block.format(2)}%out0:6001-6009{options}"
    with (
        lab.receive(pattern.format(2), 6001) as receiver,
        relaying(lab.relay, rule, ingress=ingress) as relay,
        lab.sender(pattern.format(1), 5001) as sender,
    ):
        sender.send_super(sent)
        receiver.expect(sent)
        port = sender.socket.getsockname()[1]
        assert (receiver.sources[0][1] == port) == ("sport" in options)
        settle_sent(relay, len(sent))
