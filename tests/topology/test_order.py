"""Order where the kernel merges (GRO): it lets what it cannot merge overtake what it holds.

So mcr has it merge only what has shown to be of one kind, and ends that with the first datagram
that would overtake others.
"""

import struct
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import settle_sent
from .daemons import serving
from .frames import Flow, Injector, internet_checksum, udp_frame
from .lab import Lab
from .relays import Ingress, relaying
from .test_command import command
from .traffic import Receiver, payloads

COUNT = 400
SOURCES = {4: "10.1.0.2", 6: "fd01::2"}
GROUPS = {4: "239.1.160.1", 6: "ff15::160:1"}
LEAST_FRAME_BYTES = 60
ETHERNET_BYTES = 14
ROUTER_ALERT = bytes.fromhex("94040000")
SMALL = b"odd"


def with_options(frame: bytes) -> bytes:
    """The IPv4 datagram with an option in its header."""
    header = frame[ETHERNET_BYTES : ETHERNET_BYTES + 20]
    total = struct.pack(">H", len(frame) - ETHERNET_BYTES + len(ROUTER_ALERT))
    header = b"\x46" + header[1:2] + total + header[4:10] + bytes(2) + header[12:] + ROUTER_ALERT
    checksum = struct.pack(">H", internet_checksum(header))
    header = header[:10] + checksum + header[12:]
    return frame[:ETHERNET_BYTES] + header + frame[ETHERNET_BYTES + 20 :]


def with_extension(frame: bytes) -> bytes:
    """The IPv6 datagram with an empty header of options for the destination."""
    start = ETHERNET_BYTES + 40
    length = struct.pack(">H", len(frame) - start + 8)
    head = frame[: ETHERNET_BYTES + 4] + length + b"\x3c" + frame[ETHERNET_BYTES + 7 : start]
    return head + bytes((17, 0, 1, 4, 0, 0, 0, 0)) + frame[start:]


def odd(kind: str, flow: Flow) -> tuple[bytes, bytes]:
    """A datagram that GRO cannot merge: its payload, and its frame as a card delivers it."""
    payload = b"" if kind == "empty" else SMALL if kind == "padded" else SMALL * 40
    frame = udp_frame(flow, payload, checksum=0 if kind == "no-checksum" else None)
    if kind == "options":
        frame = with_options(frame)
    elif kind == "extension":
        frame = with_extension(frame)
    return payload, frame.ljust(LEAST_FRAME_BYTES, b"\0")


def stream(kind: str, flow: Flow, count: int = COUNT) -> Iterator[tuple[bytes, bytes]]:
    """Payloads and frames, of which every tenth is odd."""
    for number, payload in enumerate(payloads(count, (200,))):
        yield odd(kind, flow) if number % 10 == 9 else (payload, udp_frame(flow, payload))


@pytest.fixture
def gathering(lab: Lab) -> Iterator[None]:
    """GRO that gathers what comes within a moment; the sender's frames come singly."""
    lab.set_offload(on=True)
    with lab.relay.gathering("in0"):
        yield


@pytest.mark.usefixtures("gathering")
@pytest.mark.parametrize(
    ("family", "kind"),
    [
        *((4, kind) for kind in ("padded", "empty", "no-checksum", "options")),
        *((6, kind) for kind in ("empty", "extension")),
    ],
)
def test_what_cannot_be_merged_keeps_its_place(
    lab: Lab, ingress: Ingress, family: int, kind: str
) -> None:
    """From the first datagram on."""
    flow = Flow(SOURCES[family], GROUPS[family], 5001)
    sent = list(stream(kind, flow))
    with (
        lab.receive("239.2.160.1", 6001) as receiver,
        relaying(
            lab.relay, f"{flow.group}%in0:5001 to 239.2.160.1%out0:6001", ingress=ingress
        ) as relay,
        Injector(lab.source, "s0") as injector,
    ):
        injector.send(*(frame for _, frame in sent))
        receiver.expect([payload for payload, _ in sent])
        settle_sent(relay, len(sent))


def merges(lab: Lab, injector: Injector, receiver: Receiver, flow: Flow) -> bool:
    """Whether the kernel merges datagrams that are all of one kind.

    While merging ends, what comes first alone overtakes what is still held.
    """
    sent = payloads(COUNT, (200,))
    before = lab.relay.ip_packets()
    receiver.forget()
    injector.send(*(udp_frame(flow, payload) for payload in sent))
    receiver.wait_for(COUNT)
    assert sorted(receiver.collected) == sorted(sent)
    return lab.relay.ip_packets() - before < COUNT / 2


def keeps_apart(relay: mcr.Relay) -> bool:
    """Whether a warning says that datagrams are no longer merged."""
    return any("one by one from now on" in warning for warning in relay.warnings)


@pytest.mark.usefixtures("gathering")
@pytest.mark.parametrize(
    ("group", "block"),
    [("239.1.160.1", "239.1.160.1"), ("239.1.160.9", "239.1.160.8/30")],
    ids=["group", "block"],
)
def test_merging_begins_with_proof_and_ends_with_what_cannot_be_merged(
    lab: Lab, group: str, block: str
) -> None:
    """Once a thousand datagrams were of one kind; one of another kind ends it for good."""
    flow = Flow("10.1.0.2", group, 5001)
    mixed = list(stream("padded", flow))
    with (
        lab.receive("239.2.160.1", 6001) as receiver,
        relaying(
            lab.relay, f"{block}%in0:5001 to 239.2.160.1%out0:6001", ingress="packet"
        ) as relay,
        Injector(lab.source, "s0") as injector,
    ):
        assert not merges(lab, injector, receiver, flow)
        wait_until(lambda: merges(lab, injector, receiver, flow))
        assert not keeps_apart(relay)
        injector.send(odd("padded", flow)[1])
        wait_until(lambda: keeps_apart(relay))
        receiver.forget()
        injector.send(*(frame for _, frame in mixed))
        receiver.expect([payload for payload, _ in mixed])
        assert not merges(lab, injector, receiver, flow)


@pytest.mark.usefixtures("gathering")
def test_workers_of_a_daemon_agree_on_merging(lab: Lab) -> None:
    """One begins it for all, and one that sees what cannot be merged ends it for all.

    The kernel spreads flows over the workers by a number that it chooses when it starts.
    """
    flows = [Flow("10.1.0.2", f"239.1.160.{number}", 5001) for number in range(3, 8)]
    flow = flows[0]
    others = [replace(flow, source_port=port) for port in range(40001, 40009)]
    with (
        lab.receive("239.2.160.1", 6001) as receiver,
        serving(lab.relay, "--ingress", "packet", "--workers", "2") as daemon,
        daemon.client() as client,
        Injector(lab.source, "s0") as injector,
    ):
        for each in flows:
            client.add_rule(f"{each.group}%in0:5001 to 239.2.160.1%out0:6001")
            wait_until(partial(merges, lab, injector, receiver, each))
        receiver.forget()
        injector.send(*(odd("padded", other)[1] for other in others))
        receiver.expect([SMALL] * len(others))
        wait_until(lambda: not merges(lab, injector, receiver, flow))
        mixed = list(stream("padded", flow))
        receiver.forget()
        injector.send(*(frame for _, frame in mixed))
        receiver.expect([payload for payload, _ in mixed])


@pytest.mark.usefixtures("gathering")
def test_the_command_says_what_is_kept_apart(lab: Lab) -> None:
    """Also a warning that comes while it runs is shown."""
    flow = Flow("10.1.0.2", "239.1.160.2", 5001)
    rule = f"{flow.group}%in0:5001 to 239.2.160.1%out0:6001"
    with (
        command(lab, rule, "--ingress", "packet") as relay,
        Injector(lab.source, "s0") as injector,
    ):
        relay.wait_ready()
        injector.send(odd("padded", flow)[1])
        relay.wait_for("warning: some datagrams of 239.1.160.2%in0:5001 cannot be merged")
