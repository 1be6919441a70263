"""Rules that the kernel relays: what arrives, what is counted, and how they move."""

import contextlib
import struct
import time
from ipaddress import ip_address

import pytest
from tests.support.deadline import wait_until

import mcr

from .bursts import BurstSender, LinkReceiver, mixed_payloads
from .checks import DEADLINE_S, dropped, settle
from .egress import OUT_PORT, copy_group, flow, output, rule, sent_counts, settle_matched
from .frames import Injector, group_mac, internet_checksum, udp_frame
from .lab import Lab
from .offload import (
    STEP,
    features,
    native,
    offloading,
    relayers,
    send_in_steps,
    wait_for_relayers,
)
from .relays import Ingress, relaying
from .traffic import Marks

SENT = mixed_payloads(640)


@pytest.fixture(autouse=True)
def _native(lab: Lab) -> None:
    native(lab)


@pytest.mark.parametrize("version", [4, 6])
def test_copies_are_whole_and_in_order(lab: Lab, ingress: Ingress, version: int) -> None:
    """Contents, headers and checksums are right, and the interface is as before at the end."""
    target = copy_group(1, version)
    text = rule(1, f"{target}%out0:{OUT_PORT},ttl=5,dscp=46", version=version)
    before = features(lab, "in0")()
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        BurstSender(lab.source, "s0") as sender,
        offloading(lab, text, ingress=ingress) as relay,
    ):
        assert relayers(relay.stats()) == ["kernel"]
        assert "xdp" in lab.relay.ip("link", "show", "in0")
        send_in_steps(sender, [flow(1, version)], SENT, relay.stats)
        seen = link.wait_for(len(SENT))
        assert link.payloads(OUT_PORT) == SENT
        assert sent_counts(relay.stats()) == [len(SENT)]
        macs = (group_mac(ip_address(target)), lab.relay.mac("out0"))
        assert {each.macs for each in seen} == {macs}
        own = "10.2.0.1" if version == 4 else "fd02::1"
        assert len({each.source for each in seen}) == 1
        assert seen[0].source[0] == own
        assert {each.destination for each in seen} == {(target, OUT_PORT)}
        assert {each.marks for each in seen} == {Marks(5, 46)}
        assert all(each.has_checksums for each in seen)
        stats = relay.stats().rules[0]
        assert stats.matched_bytes == stats.outputs[0].sent_bytes == sum(map(len, SENT))
        source = flow(1, version).source
        assert stats.state == f"flowing from {source}"
    assert features(lab, "in0")() == before


def test_four_outputs_on_two_interfaces(lab: Lab) -> None:
    """Each gets every datagram, in order."""
    targets = [output(number, f"out{number % 2}") for number in range(4)]
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as even,
        LinkReceiver(lab.receiver, "d1", [OUT_PORT]) as odd,
        BurstSender(lab.source, "s0") as sender,
        offloading(lab, rule(1, *targets)) as relay,
    ):
        send_in_steps(sender, [flow(1)], SENT, relay.stats)
        assert relayers(relay.stats()) == ["kernel"]
        settle(relay, lambda stats: sent_counts(stats) == [len(SENT)] * 4)
        for number in range(4):
            link = odd if number % 2 else even
            link.wait_for(2 * len(SENT))
            to_it = [each for each in link.seen if each.destination[0] == copy_group(number)]
            assert [each.payload for each in to_it] == SENT
            assert all(each.has_checksums for each in to_it)


@pytest.mark.parametrize("host", ["10.2.0.2%out0", "[fd02::2]%out0", "10.3.0.2"])
def test_hosts(lab: Lab, host: str) -> None:
    """They are addressed by the MAC address of the neighbour, also where routing decides."""
    version = 6 if ":" in host else 4
    device = "d1" if host == "10.3.0.2" else "d0"
    text = rule(1, f"{host}:{OUT_PORT},ttl=decrement", version=version)
    with (
        LinkReceiver(lab.receiver, device, [OUT_PORT]) as link,
        BurstSender(lab.source, "s0") as sender,
        offloading(lab, text) as relay,
    ):
        assert relayers(relay.stats()) == ["kernel"]
        send_in_steps(sender, [flow(1, version)], SENT, relay.stats)
        seen = link.wait_for(len(SENT))
        assert link.payloads(OUT_PORT) == SENT
        near = "out1" if device == "d1" else "out0"
        macs = (lab.receiver.mac(device), lab.relay.mac(near))
        assert {each.macs for each in seen} == {macs}
        assert {each.marks.ttl for each in seen} == {7}
        assert all(each.has_checksums for each in seen)


def with_options(frame: bytes) -> bytes:
    """The frame with four bytes of IP options (NOP)."""
    header = bytearray(frame[14:34] + bytes([1] * 4))
    header[0] = 0x46
    header[2:4] = struct.pack(">H", len(frame) - 14 + 4)
    header[10:12] = bytes(2)
    header[10:12] = struct.pack(">H", internet_checksum(bytes(header)))
    return frame[:14] + bytes(header) + frame[34:]


def test_what_the_kernel_passes_is_relayed_by_the_engine(lab: Lab, ingress: Ingress) -> None:
    """Fragments, IP options and a used up TTL, each counted once; other VLANs are not."""
    plain = udp_frame(flow(1), b"plain")
    with (
        lab.receive(copy_group(1), OUT_PORT) as receiver,
        Injector(lab.source, "s0") as injector,
        lab.sender(flow(1).group, flow(1).port) as fragmented,
        offloading(lab, rule(1, output(1)), ingress=ingress) as relay,
    ):
        injector.send(plain)
        receiver.wait_for(1)
        injector.send(with_options(udp_frame(flow(1), b"options")))
        receiver.wait_for(2)
        fragmented.send([bytes(4000)])
        receiver.wait_for(3)
        injector.send(udp_frame(flow(1), b"vlan", tags=((0x8100, 7),)))
        injector.send(plain)
        receiver.expect([b"plain", b"options", bytes(4000), b"plain"])
        settle_matched(relay.stats, 4)
        stats = settle(relay, lambda stats: sent_counts(stats) == [4])
        assert relayers(stats) == ["kernel"]
        if ingress == "packet":
            wait_until(lambda: dropped(relay.stats(), "in0", "vlan") == 1, 5.0)


def test_a_vlan(lab: Lab) -> None:
    """Its tag ends at the relay; untagged frames are not taken for it."""
    text = rule(1, output(1)).replace("%in0:5001", "%in0:5001,vlan=7")
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        Injector(lab.source, "s0") as injector,
        offloading(lab, text) as relay,
    ):
        for number in range(10):
            payload = bytes([number] * 60)
            injector.send(udp_frame(flow(1), payload, tags=((0x8100, 7),)))
            injector.send(udp_frame(flow(1), payload))
            link.wait_for(number + 1)
        settle_matched(relay.stats, 10)
        assert link.payloads(OUT_PORT) == [bytes([number] * 60) for number in range(10)]


def test_a_new_rule_of_a_running_stream_begins_in_the_kernel(lab: Lab, ingress: Ingress) -> None:
    """Without a pause: every datagram since the first one arrives, once and in order."""
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        BurstSender(lab.source, "s0") as sender,
        offloading(lab, rule(1, output(1)), ingress=ingress) as relay,
    ):
        send_in_steps(sender, [flow(1)], SENT, relay.stats)
        with_port = rule(2, output(2)).replace(flow(2).group, flow(1).group)
        other = with_port.replace(":5001", ":5002")
        with lab.relay:
            relay.add_rule(other)
        assert relayers(relay.stats()) == ["kernel", "kernel"]
        relay.disable_rule(relay.rules[0])
        assert relayers(relay.stats()) == ["disabled", "kernel"]
        sender.send_mixed([(flow(1), payload) for payload in SENT[:STEP]])
        settle(relay, lambda stats: dropped(stats, "in0", "disabled") == STEP)
        with lab.relay:
            relay.enable_rule(relay.rules[0])
        assert relayers(relay.stats()) == ["kernel", "kernel"]
        send_in_steps(sender, [flow(1)], SENT, relay.stats)
        link.wait_for(2 * len(SENT))
        assert link.payloads(OUT_PORT) == SENT * 2


def test_rules_for_one_input_move_together(lab: Lab) -> None:
    """Lists of other senders are relayed beside each other; a datagram for two rules is not."""
    group = flow(1).group
    listed = [f"10.1.0.{2 + number}@{group}%in0:5001 to {output(number)}" for number in range(2)]
    any_sender = f"{group}%in0:5001 to {output(3)}"
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        BurstSender(lab.source, "s0") as sender,
        offloading(lab, *listed, any_sender, offload="auto") as relay,
    ):
        assert relayers(relay.stats()) == ["kernel"] * 3
        send_in_steps(sender, [flow(1)], SENT, relay.stats)
        with lab.relay:
            doubled = relay.add_rule(f"{group}%in0:5001 to {output(4)}")
        assert relayers(relay.stats()) == ["shared_input"] * 4
        send_in_steps(sender, [flow(1)], SENT, relay.stats)
        relay.remove_rule(doubled)
        wait_for_relayers(relay, *["kernel"] * 3)
        send_in_steps(sender, [flow(1)], SENT, relay.stats)
        link.wait_for(3 * len(SENT))
        assert link.payloads(OUT_PORT) == SENT * 3
        assert {each.destination[0] for each in link.seen} == {copy_group(0)}
        assert sent_counts(relay.stats()) == [3 * len(SENT), 0, 0]


def test_a_busy_interface_is_left_alone(lab: Lab) -> None:
    """Another program keeps its interface: a rule is refused, or relayed by the engine."""

    def program() -> str:
        return lab.relay.ip("link", "show", "in0").partition("prog/xdp")[2]

    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        BurstSender(lab.source, "s0") as sender,
        contextlib.ExitStack() as stack,
    ):
        stack.enter_context(offloading(lab, rule(1, output(1))))
        before = program()
        with (
            pytest.raises(mcr.RuleError, match="another XDP program is attached to in0"),
            offloading(lab, rule(2, output(2))),
        ):
            pass
        with offloading(lab, rule(2, output(2)), offload="auto") as second:
            assert relayers(second.stats()) == ["hook"]
            send_in_steps(sender, [flow(2)], SENT, second.stats)
            link.wait_for(len(SENT))
            assert program() == before
            stack.close()
            wait_for_relayers(second, "kernel")
            send_in_steps(sender, [flow(2)], SENT, second.stats)
            link.wait_for(2 * len(SENT))
            assert link.payloads(OUT_PORT) == SENT * 2
    assert program() == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"239.1.90.1%in0:5001-5002 to {output(1)}", "pattern"),
        (f"10.1.0.1%in0:5001 to {output(1)}", "not_group"),
        (f"239.1.90.1%in0:5001 to ff15::92:1%out0:{OUT_PORT}", "family"),
        (f"239.1.90.1%in0:5001 to {output(1, options=',priority=3')}", "priority"),
        (f"239.1.90.1%in0:5001 to {output(1, 'lo')}", "not_ethernet"),
        (f"239.1.90.1%in0:5001 to 127.0.0.1:{OUT_PORT}", "route"),
    ],
)
def test_what_only_the_engine_relays(lab: Lab, text: str, reason: str) -> None:
    """`auto` says why, `require` refuses with the remedy."""
    with offloading(lab, text, offload="auto") as relay:
        assert relayers(relay.stats()) == [reason]
    with pytest.raises(mcr.RuleError, match="use offload auto"), offloading(lab, text):
        pass


def test_a_full_device_is_named_with_the_time(lab: Lab) -> None:
    """Sixty copies of eight frames are more than the ring of a veth has: the loss is counted."""
    before = time.time()
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        BurstSender(lab.source, "s0") as sender,
        offloading(lab, rule(1, *map(output, range(60)))) as relay,
        lab.relay.gathering("in0"),
    ):

        def lost() -> list[int]:
            outputs = relay.stats().rules[0].outputs
            return [output.dropped["device_full"] for output in outputs]

        deadline = time.monotonic() + DEADLINE_S
        while not any(lost()):
            assert time.monotonic() < deadline, lost()
            sender.send([udp_frame(flow(1), payload) for payload in SENT[:STEP]])
        stats = settle(
            relay, lambda stats: not any(each.pending for each in stats.rules[0].outputs)
        )
        outputs = stats.rules[0].outputs
        link.wait_for(sum(output.sent for output in outputs))
        assert {output.wanted for output in outputs} == {stats.rules[0].matched}
        losses = [output.last_loss for output in outputs if output.lost]
        assert {loss and loss.reason for loss in losses} == {"device_full"}
        assert all(loss and before - 2 <= loss.at <= time.time() for loss in losses)


def test_without_the_option_nothing_is_attached(lab: Lab) -> None:
    """And the reason is the option."""
    with relaying(lab.relay, rule(1, output(1))) as relay:
        assert relayers(relay.stats()) == ["off"]
        assert "xdp" not in lab.relay.ip("link", "show", "in0")
