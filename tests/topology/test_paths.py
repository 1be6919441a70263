"""The ways a datagram can take: one output, many, there and back, IPv4 and IPv6."""

import pytest

from .checks import dropped, settle_sent
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import Receiver, Sender, payloads


@pytest.mark.parametrize("size", [1400, 200])
def test_one_to_one(lab: Lab, ingress: Ingress, gro: bool, size: int) -> None:
    """One group becomes another, byte for byte, in order, and every number adds up."""
    sent = payloads(400, (size,))
    frames_in, frames_out = lab.relay.frames("in0")[0], lab.relay.frames("out0")[1]
    with (
        lab.receive("239.2.0.1", 6001) as receiver,
        relaying(lab.relay, "239.1.0.1%in0:5001 to 239.2.0.1%out0:6001", ingress=ingress) as relay,
        lab.sender("239.1.0.1", 5001) as sender,
    ):
        (sender.send_super if gro else sender.send)(sent)
        receiver.expect(sent)
        stats = settle_sent(relay, len(sent))
        assert relay.ingress == ingress
        assert {source for source, _ in receiver.sources} == {"10.2.0.1"}
        assert len(set(receiver.sources)) == 1
        (interface,), (rule,) = stats.interfaces, stats.rules
        assert (interface.name, interface.ingress) == ("in0", ingress)
        assert interface.received == interface.matched == rule.matched == len(sent)
        assert interface.kernel_dropped_frames == 0
        assert rule.matched_bytes == rule.outputs[0].sent_bytes == size * len(sent)
    frames_in, frames_out = (
        lab.relay.frames("in0")[0] - frames_in,
        lab.relay.frames("out0")[1] - frames_out,
    )
    if gro:
        assert frames_in < len(sent) / 4, "the test did not send super-frames"
        assert frames_out < len(sent) / 4, "super-frames did not leave as super-frames"
    else:
        assert min(frames_in, frames_out) >= len(sent), "the test sent super-frames"


@pytest.mark.parametrize(
    ("group", "output"),
    [("ff15::1:1", "ff15::2:1"), ("ff15::1:2", "239.2.0.2"), ("239.1.0.2", "ff15::2:2")],
    ids=["v6-v6", "v6-v4", "v4-v6"],
)
def test_address_families(lab: Lab, ingress: Ingress, gro: bool, group: str, output: str) -> None:
    """IPv6 is relayed like IPv4, and each into the other."""
    sent = payloads(300)
    with (
        lab.receive(output, 6001) as receiver,
        relaying(lab.relay, f"{group}%in0:5001 to {output}%out0:6001", ingress=ingress) as relay,
        lab.sender(group, 5001) as sender,
    ):
        (sender.send_super if gro else sender.send)(sent)
        receiver.expect(sent)
        settle_sent(relay, len(sent))


def test_tree_of_eight_outputs(lab: Lab, ingress: Ingress, gro: bool) -> None:
    """Four groups on one interface, three on another and a host all get everything."""
    places = [(f"239.2.1.{n}", 6000 + n, "d0", "%out0") for n in range(1, 5)]
    places += [(f"239.2.1.{n}", 6000 + n, "d1", "%out1") for n in range(5, 8)]
    places += [("10.2.0.2", 7000, "d0", "")]
    outputs = " ".join(f"{address}{at}:{port}" for address, port, _, at in places)
    receivers = [lab.receive(address, port, device) for address, port, device, _ in places]
    sent = payloads(300)
    with (
        relaying(lab.relay, f"239.1.1.1%in0:5001 to {outputs}", ingress=ingress) as relay,
        lab.sender("239.1.1.1", 5001) as sender,
    ):
        (sender.send_super if gro else sender.send)(sent)
        for receiver in receivers:
            receiver.expect(sent)
        settle_sent(relay, *[len(sent)] * len(places))
    for receiver in receivers:
        receiver.close()


def test_unicast_to_multicast_and_back(lab: Lab, ingress: Ingress, gro: bool) -> None:
    """A stream to the relay's own address becomes a group, the answer's group a host again."""
    there, back = payloads(200, seed=1), payloads(200, seed=2)
    with (
        lab.receive("239.2.2.1", 6001) as group,
        Receiver(lab.source, "s0", "10.1.0.2", 7002) as host,
        relaying(
            lab.relay,
            "10.1.0.1%in0:5001 to 239.2.2.1%out0:6001",
            "239.2.2.2%out0:6002 to 10.1.0.2:7002",
            ingress=ingress,
        ) as relay,
        lab.sender("10.1.0.1", 5001) as asking,
        Sender(lab.receiver, "d0", "239.2.2.2", 6002) as answering,
    ):
        (asking.send_super if gro else asking.send)(there)
        answering.send(back)
        group.expect(there)
        host.expect(back)
        settle_sent(relay, len(there), len(back))
        assert asking.refusal() == 0, "the relay host answered 'port unreachable'"


def test_two_rules_on_one_input(lab: Lab, ingress: Ingress, gro: bool) -> None:
    """Two rules that take the same input both get everything, and it counts once as received."""
    sent = payloads(200)
    with (
        lab.receive("239.2.3.1", 6001) as first,
        lab.receive("239.2.3.2", 6001, "d1") as second,
        relaying(
            lab.relay,
            "239.1.3.1%in0:5001 to 239.2.3.1%out0:6001",
            "239.1.3.1%in0:5001 to 239.2.3.2%out1:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.3.1", 5001) as sender,
    ):
        (sender.send_super if gro else sender.send)(sent)
        first.expect(sent)
        second.expect(sent)
        stats = settle_sent(relay, len(sent), len(sent))
        assert stats.interfaces[0].received == len(sent)


def test_several_interfaces_do_not_mix(lab: Lab, ingress: Ingress) -> None:
    """The same group and port on two interfaces are two inputs."""
    here, there = payloads(100, seed=1), payloads(100, seed=2)
    with (
        lab.receive("239.2.4.1", 6001) as first,
        lab.receive("239.2.4.2", 6001) as second,
        relaying(
            lab.relay,
            "239.1.4.1%in0:5001 to 239.2.4.1%out0:6001",
            "239.1.4.1%big:5001 to 239.2.4.2%out0:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.4.1", 5001) as sender,
        lab.sender("239.1.4.1", 5001, interface="s1") as other,
    ):
        sender.send(here)
        other.send(there)
        first.expect(here)
        second.expect(there)
        stats = settle_sent(relay, len(here), len(there))
        assert {entry.name for entry in stats.interfaces} == {"in0", "big"}


def test_input_interface_without_any_address(lab: Lab, ingress: Ingress) -> None:
    """An input needs no address on its interface."""
    sent = payloads(100)
    with (
        lab.receive("239.2.5.1", 6001) as receiver,
        relaying(lab.relay, "239.1.5.1%bare:5001 to 239.2.5.1%out0:6001", ingress=ingress) as relay,
        lab.sender("239.1.5.1", 5001, interface="s2") as sender,
    ):
        sender.send(sent)
        receiver.expect(sent)
        settle_sent(relay, len(sent))


def test_sender_on_the_relay_host(lab: Lab) -> None:
    """What the relay host itself sends to the group is relayed by the udp ingress."""
    sent = payloads(100)
    with (
        lab.receive("239.2.6.1", 6001) as receiver,
        relaying(lab.relay, "239.1.6.1%in0:5001 to 239.2.6.1%out0:6001", ingress="udp") as relay,
        Sender(lab.relay, "in0", "239.1.6.1", 5001) as sender,
    ):
        sender.send(sent)
        receiver.expect(sent)
        settle_sent(relay, len(sent))


def test_own_copies_are_no_input(lab: Lab) -> None:
    """With packet ingress, what the relay sends out of an input interface does not come back."""
    sent = payloads(50)
    with (
        Receiver(lab.source, "s0", "239.2.7.1", 5001) as receiver,
        lab.receive("239.2.7.2", 6001) as loop,
        relaying(
            lab.relay,
            "239.1.7.1%in0:5001 to 239.2.7.1%in0:5001",
            "239.2.7.1%in0:5001 to 239.2.7.2%out0:6001",
            ingress="packet",
        ) as relay,
        lab.sender("239.1.7.1", 5001) as sender,
    ):
        sender.send(sent)
        receiver.expect(sent)
        stats = settle_sent(relay, len(sent), 0)
        assert stats.interfaces[0].received == len(sent)
        assert dropped(stats, "in0", "no_rule") == 0
        assert loop.drain() == []
