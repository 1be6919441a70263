"""Frames that lie in a packet ring: where nothing merges them, as `packet` receives by default."""

import itertools
import signal
from pathlib import Path

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import assert_balanced, dropped, settle, settle_sent
from .frames import Flow, Tap, udp_frame
from .lab import Lab
from .relays import relaying
from .test_buffers import LEAST_BUFFER_BYTES, send_until_one_arrives, state
from .test_command import command
from .traffic import payloads

RULE = "239.1.110.1%in0:5001 to 239.2.110.1%out0:6001"
LEAST_SLOTS = 64  # of the smallest ring, with LEAST_BUFFER_BYTES
WAITING = 1500  # fewer than the slots of a ring, and more than one turn takes
TOO_MANY_LONG = 700
GSO_UDP = 3  # VIRTIO_NET_HDR_GSO_UDP, as guests of before Linux 4.14 send
MORE_THAN_FAILURES = 10


def test_burst_larger_than_the_ring(lab: Lab) -> None:
    """What finds no slot is counted, and the rest is relayed in its order."""
    lab.set_offload(on=False)
    with (
        lab.receive("239.2.110.1", 6001) as receiver,
        relaying(lab.relay, RULE, ingress="packet", buffer_bytes=LEAST_BUFFER_BYTES) as relay,
        lab.sender("239.1.110.1", 5001) as sender,
    ):
        for burst in itertools.count():
            sender.send_super(payloads(20 * LEAST_SLOTS, seed=burst), batch=40)
            sent = 20 * LEAST_SLOTS * (burst + 1)
            stats = settle_met(relay, sent)
            receiver.drain()  # else many bursts would not fit into its buffer
            if stats.interfaces[0].kernel_dropped_frames:
                break
        matched = stats.interfaces[0].matched
        numbers = [int.from_bytes(payload[:8], "little") for payload in receiver.wait_for(matched)]
        assert len(numbers) == matched
        drops_in_order = sum(later < earlier for earlier, later in itertools.pairwise(numbers))
        assert drops_in_order <= burst, "only a new burst begins anew"
        # Reading has not used the count up.
        assert relay.stats().interfaces[0] == stats.interfaces[0]


def settle_met(relay: mcr.Relay, sent: int) -> mcr.Stats:
    """Wait until this many frames were received, or lost in the kernel."""

    def met(stats: mcr.Stats) -> bool:
        (interface,) = stats.interfaces
        return interface.received + interface.kernel_dropped_frames == sent

    return settle(relay, met)


def test_fragments_keep_their_place(lab: Lab) -> None:
    """Datagrams that are put together, too long for a slot, stay between those around them."""
    lab.set_offload(on=False)
    sent = payloads(200, (1400, 3000, 0, 200, 60000, 60000, 8, 3000))
    with (
        lab.receive("239.2.110.1", 6001) as receiver,
        relaying(lab.relay, RULE, ingress="packet") as relay,
        lab.sender("239.1.110.1", 5001) as sender,
    ):
        sender.send(sent)
        receiver.expect(sent)
        stats = settle_sent(relay, len(sent))
        assert stats.interfaces[0].received == len(sent)


def test_merging_that_begins_meanwhile(lab: Lab) -> None:
    """Super-frames that come once GRO is on go whole through a ring made for single frames."""
    lab.set_offload(on=False)
    before, after = payloads(100, seed=1), payloads(400, seed=2)
    with (
        lab.receive("239.2.110.1", 6001) as receiver,
        relaying(lab.relay, RULE, ingress="packet") as relay,
        lab.sender("239.1.110.1", 5001) as sender,
    ):
        sender.send(before)
        receiver.expect(before)
        lab.set_offload(on=True)
        sender.send_super(after, batch=40)
        receiver.expect(before + after)
        settle_sent(relay, len(before) + len(after))


def test_frames_in_the_ring_are_sent_before_the_end(lab: Lab) -> None:
    """A relay that is stopped first sends the whole content of its ring."""
    lab.set_offload(on=False)
    sent = payloads(WAITING, (300,))
    with (
        lab.receive("239.2.110.1", 6001) as receiver,
        lab.sender("239.1.110.1", 5001) as sender,
        command(lab, RULE, "--ingress", "packet", "--json") as relay,
    ):
        relay.wait_ready()
        relay.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: state(relay.process.pid) == "T")
        sender.send(sent)
        relay.process.send_signal(signal.SIGTERM)
        relay.process.send_signal(signal.SIGCONT)
        report = relay.report()
        receiver.expect(sent)
    assert_balanced(report)
    assert report["interfaces"][0]["received"] == len(sent)


def test_more_long_frames_than_the_socket_holds(lab: Lab) -> None:
    """A frame whose whole could not be kept is `truncated_by_us`, never relayed short."""
    lab.set_offload(on=False)
    sent = payloads(TOO_MANY_LONG, (60000,))
    with (
        lab.receive("239.2.110.1", 6001) as receiver,
        lab.sender("239.1.110.1", 5001) as sender,
        command(lab, RULE, "--ingress", "packet", "--json") as relay,
    ):
        relay.wait_ready()
        relay.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: state(relay.process.pid) == "T")
        sender.send(sent)
        relay.process.send_signal(signal.SIGCONT)
        sender.send([b"last"])
        got = receiver.wait_for_payload(b"last")
        relay.process.send_signal(signal.SIGTERM)
        report = relay.report()
    assert_balanced(report)
    (interface,) = report["interfaces"]
    cut = interface["dropped"]["truncated_by_us"]
    assert cut > 0
    assert interface["received"] == len(sent) + 1
    assert got == [*sent[: len(got) - 1], b"last"]
    assert len(got) == len(sent) + 1 - cut


def test_rules_come_and_go(lab: Lab) -> None:
    """The last rule takes its ring with it, and a new one begins with another, losing nothing."""
    lab.set_offload(on=False)
    with (
        lab.receive("239.2.110.1", 6001) as receiver,
        relaying(lab.relay, ingress="packet", egress="socket") as relay,
        lab.sender("239.1.110.1", 5001) as sender,
    ):
        for turn in range(5):
            with lab.relay:
                rule = relay.add_rule(RULE)
            assert mapped_rings() == 1
            sent = payloads(50, seed=turn)
            sender.send(sent)
            receiver.expect(sent)
            receiver.forget()
            relay.remove_rule(rule)
            assert mapped_rings() == 0


def mapped_rings() -> int:
    """How many packet rings this process maps, where no copies leave through AF_XDP rings."""
    return Path("/proc/self/maps").read_text().count("socket:")


def test_link_that_goes_down_and_comes_back(lab: Lab) -> None:
    """The socket's error is taken, the ring is watched again, and what comes later is relayed."""
    lab.set_offload(on=False)
    with (
        lab.receive("239.2.110.1", 6001) as receiver,
        relaying(lab.relay, RULE, ingress="packet") as relay,
        lab.sender("239.1.110.1", 5001) as sender,
    ):
        for _ in range(3):
            lab.relay.ip("link", "set", "in0", "down")
            lab.relay.ip("link", "set", "in0", "up")
            receiver.forget()
            send_until_one_arrives(sender, receiver)
        assert relay.stats().interfaces[0].error is None


@pytest.mark.parametrize("gro", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_frames_that_the_kernel_cannot_describe(lab: Lab, gro: bool, workers: int) -> None:
    """A guest's frames for UDP fragmentation offload cost themselves, never the input.

    They end a packet ring: within seconds a socket without one takes its place.
    """
    flow = Flow("10.1.0.2", "239.1.110.1", 5001)
    rule = RULE.replace("in0", "tap0")
    with (
        lab.receive("239.2.110.1", 6001) as receiver,
        Tap(lab.relay, "tap0", gro=gro) as tap,
        relaying(lab.relay, rule, ingress="packet", workers=workers) as relay,
    ):

        def flows() -> bool:
            tap.send(udp_frame(flow, b"good"))
            return receiver.drain() != []

        for _ in range(2):
            for _ in range(MORE_THAN_FAILURES):
                tap.send(udp_frame(flow, bytes(4000)), gso_type=GSO_UDP, gso_size=1400)
            receiver.forget()
            wait_until(flows)
        assert dropped(relay.stats(), "tap0", "bad_header") >= MORE_THAN_FAILURES
        assert relay.stats().interfaces[0].error is None
        left = [text for text in relay.warnings if "cannot put into a packet ring" in text]
        assert len(left) == (0 if gro else 1)
