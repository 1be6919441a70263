"""Inputs that are addresses of this host, on any interface and on shared ports."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import settle_sent
from .daemons import serving
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import Receiver, Sender, payloads

SERVICE = {4: "192.0.2.1", 6: "2001:db8:77::1"}
GATEWAY = {4: "10.1.0.1", 6: "fd01::1"}
FAR = {4: "10.2.0.2", 6: "fd02::2"}
OWN_FAR = {4: "10.2.0.1", 6: "fd02::1"}
NEAR = {4: "10.1.0.2", 6: "fd01::2"}
OTHER_NEAR = {4: "10.1.0.3", 6: "fd01::3"}
PORT = 5001
COUNT = 40


def at(address: str, port: int) -> str:
    """The text of an address and a port."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@contextlib.contextmanager
def service(lab: Lab, family: int, interface: str) -> Iterator[str]:
    """An address of the relay host, on any interface, that its neighbour reaches by in0."""
    address, bits = SERVICE[family], 32 if family == 4 else 128
    version = f"-{family}"
    lab.relay.ip("address", "add", f"{address}/{bits}", "dev", interface)
    lab.source.ip(version, "route", "add", address, "via", GATEWAY[family])
    try:
        yield address
    finally:
        lab.source.ip(version, "route", "del", address)
        lab.relay.ip("address", "del", f"{address}/{bits}", "dev", interface)


@pytest.mark.parametrize(("family", "place"), [(4, "lo"), (4, "out1"), (6, "lo")])
@pytest.mark.parametrize("offload", [False, True])
def test_an_address_elsewhere(
    lab: Lab, ingress: Ingress, family: int, place: str, offload: bool
) -> None:
    """Datagrams that arrive on another interface than the one with the address, once."""
    lab.set_offload(on=offload)
    sent = payloads(COUNT)
    with service(lab, family, place) as address:
        rule = f"{at(address, PORT)} to 239.2.0.1%out0:6001"
        with (
            relaying(lab.relay, rule, ingress=ingress, workers=2) as relay,
            lab.receive("239.2.0.1", 6001) as receiver,
            lab.sender(address, PORT) as sender,
        ):
            assert relay.stats().rules[0].state == "bound, no frame seen on any interface"
            if offload:
                sender.send_super(sent)
            else:
                sender.send(sent)
            receiver.expect(sent)
            assert sender.refusal() == 0
            settle_sent(relay, COUNT)


def test_an_address_on_both_ways(lab: Lab, ingress: Ingress) -> None:
    """On its own interface and on another: each datagram counts once."""
    with (
        service(lab, 4, "out0") as address,
        relaying(lab.relay, f"{address}:{PORT} to 239.2.0.1%out1:6001", ingress=ingress) as relay,
        lab.receive("239.2.0.1", 6001, "d1") as receiver,
        lab.sender(address, PORT) as by_other,
    ):
        lab.receiver.ip("route", "add", address, "via", OWN_FAR[4])
        try:
            with Sender(lab.receiver, "d0", address, PORT) as by_own:
                for payload in payloads(COUNT, (200,)):
                    by_own.send([payload])
                    by_other.send([payload])
        finally:
            lab.receiver.ip("route", "del", address)
        receiver.wait_for(2 * COUNT)
        assert settle_sent(relay, 2 * COUNT).interfaces[0].matched == 2 * COUNT


def test_a_named_interface_is_the_only_one(lab: Lab, ingress: Ingress) -> None:
    """A rule without an interface matches the datagrams of the others."""
    with service(lab, 4, "lo") as address:
        rules = (
            f"{address}%out0:{PORT} to 239.2.0.1%out1:6001",
            f"{address}:{PORT} to 239.2.0.2%out1:6001",
        )
        with (
            relaying(lab.relay, *rules, ingress=ingress) as relay,
            lab.receive("239.2.0.2", 6001, "d1") as receiver,
            lab.sender(address, PORT) as sender,
        ):
            sent = payloads(COUNT, (200,))
            sender.send(sent)
            receiver.expect(sent)
            settle_sent(relay, 0, COUNT)


def test_the_same_address_with_and_without_an_interface(lab: Lab, ingress: Ingress) -> None:
    """Refused on the interface that has it: one rule would receive the other's."""
    with lab.relay, mcr.Relay(ingress=ingress) as relay:
        relay.add_rule(f"{GATEWAY[4]}%in0:{PORT} to 239.2.0.1%out0:6001")
        with pytest.raises(mcr.RuleError, match=r"names in0 .*; name it here too"):
            relay.add_rule(f"{GATEWAY[4]}:{PORT} to 239.2.0.2%out0:6001")


def test_a_daemon_receives_an_address_elsewhere(lab: Lab, ingress: Ingress) -> None:
    """By sockets that the supervisor opens, for each number of workers."""
    sent = payloads(COUNT, (200,))
    with (
        service(lab, 4, "lo") as address,
        serving(lab.relay, "--ingress", ingress, "--workers", "2") as daemon,
        daemon.client() as client,
        lab.receive("239.2.0.1", 6001) as receiver,
        lab.sender(address, PORT) as sender,
    ):
        client.add_rule(f"{address}:{PORT} to 239.2.0.1%out0:6001,sport={PORT}")
        sender.send(sent)
        receiver.expect(sent)
        settle_sent(client, COUNT)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("source", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_one_port_in_both_directions(
    lab: Lab, ingress: Ingress, family: int, source: bool, workers: int
) -> None:
    """Both ends send from the port that they listen on, and the relay does so to each."""
    near, far = NEAR[family], FAR[family]
    from_far = f",source={OWN_FAR[family]}" if source else ""
    from_near = f",source={GATEWAY[family]}" if source else ""
    there = f"{at(GATEWAY[family], PORT)} to {at(far, PORT)},sport={PORT}{from_far}"
    back = f"{at(OWN_FAR[family], PORT)} to {at(near, PORT)},sport={PORT}{from_near}"
    sent = payloads(2 * COUNT, (200,))
    with (
        relaying(lab.relay, there, ingress=ingress, workers=workers) as relay,
        Receiver(lab.source, "s0", near, PORT) as left,
        Receiver(lab.receiver, "d0", far, PORT) as right,
    ):
        with lab.relay:
            relay.add_rule(back)
        # The kernel may send what waits for a neighbour's address after what comes then.
        ends = ((left, GATEWAY[family], right), (right, OWN_FAR[family], left))
        for sender, address, receiver in ends:
            sender.socket.sendto(b"first", (address, PORT))
            receiver.expect([b"first"])
            receiver.forget()
        for mine, theirs in zip(sent[:COUNT], sent[COUNT:], strict=True):
            left.socket.sendto(mine, (GATEWAY[family], PORT))
            right.socket.sendto(theirs, (OWN_FAR[family], PORT))
        left.expect(sent[COUNT:])
        right.expect(sent[:COUNT])
        assert set(left.sources) == {(GATEWAY[family], PORT)}
        assert set(right.sources) == {(OWN_FAR[family], PORT)}
        settle_sent(relay, 1 + COUNT, 1 + COUNT)


def test_sending_from_the_port_of_the_only_input(lab: Lab, ingress: Ingress) -> None:
    """The host does not answer "port unreachable"."""
    sent = payloads(COUNT, (200,))
    rule = f"{GATEWAY[4]}:{PORT} to {OTHER_NEAR[4]}:7000,sport={PORT}"
    with (
        relaying(lab.relay, rule, ingress=ingress) as relay,
        Receiver(lab.source, "s0", OTHER_NEAR[4], 7000) as receiver,
        lab.sender(GATEWAY[4], PORT, source=(NEAR[4], PORT)) as sender,
    ):
        sender.send(sent)
        receiver.expect(sent)
        assert sender.refusal() == 0
        settle_sent(relay, COUNT)


@pytest.mark.parametrize("at_start", [False, True])
def test_a_daemon_sends_from_an_input_s_port(
    lab: Lab, ingress: Ingress, at_start: bool, tmp_path: Path
) -> None:
    """Each worker has a socket for each output, and one has the input, whichever opens first."""
    rules = [
        f"{GATEWAY[4]}:{PORT} to {FAR[4]}:{PORT},sport={PORT}",
        f"{OWN_FAR[4]}:{PORT} to {NEAR[4]}:{PORT},sport={PORT}",
    ]
    config = tmp_path / "rules.toml"
    config.write_text(f"rules = {json.dumps(rules if at_start else [])}\n")
    sent = payloads(COUNT, (200,))
    with (
        serving(
            lab.relay, "--config", str(config), "--ingress", ingress, "--workers", "2"
        ) as daemon,
        daemon.client() as client,
        Receiver(lab.source, "s0", NEAR[4], PORT) as left,
        Receiver(lab.receiver, "d0", FAR[4], PORT) as right,
    ):
        if not at_start:
            for rule in rules:
                client.add_rule(rule)
        for payload in sent:
            left.socket.sendto(payload, (GATEWAY[4], PORT))
            right.socket.sendto(payload, (OWN_FAR[4], PORT))
        left.expect(sent)
        right.expect(sent)
        settle_sent(client, COUNT, COUNT)


def test_a_block_and_an_address_on_one_port(lab: Lab) -> None:
    """The helper sockets of a block leave the port to an input."""
    rules = (
        f"239.1.0.0/24%in0:{PORT} to 239.2.0.0/24%out0:6001",
        f"{GATEWAY[4]}:{PORT} to {FAR[4]}:7000",
    )
    sent = payloads(COUNT, (200,))
    with (
        relaying(lab.relay, *rules, ingress="packet") as relay,
        Receiver(lab.receiver, "d0", FAR[4], 7000) as receiver,
        lab.sender(GATEWAY[4], PORT) as sender,
    ):
        assert not [said for said in relay.warnings if GATEWAY[4] in said]
        sender.send(sent)
        receiver.expect(sent)
        assert sender.refusal() == 0
        settle_sent(relay, 0, COUNT)


@contextlib.contextmanager
def narrow_path(lab: Lab) -> Iterator[str]:
    """A host behind a neighbour, on a path with a smaller MTU."""
    far = "fd09::9"
    lab.receiver.sysctl("net.ipv6.conf.all.forwarding", 1)
    lab.receiver.ip("-6", "route", "add", far, "dev", "d1", "mtu", "1280")
    lab.relay.ip("-6", "route", "add", far, "via", FAR[6])
    try:
        yield far
    finally:
        lab.relay.ip("-6", "route", "del", far)
        lab.receiver.ip("-6", "route", "del", far, "dev", "d1")
        lab.receiver.sysctl("net.ipv6.conf.all.forwarding", 0)


@pytest.mark.parametrize("sport", [f",sport={PORT}", ",sport=4000"])
def test_a_narrow_path_is_learned(lab: Lab, ingress: Ingress, sport: str) -> None:
    """IPv6 routers do not fragment: without "packet too big" all would be lost."""
    with (
        narrow_path(lab) as far,
        relaying(lab.relay, f"{at(GATEWAY[6], PORT)} to {at(far, 7000)}{sport}", ingress=ingress),
        lab.sender(GATEWAY[6], PORT) as sender,
    ):

        def is_learned() -> bool:
            sender.send(payloads(1, (1400,)))
            return "mtu 1280" in lab.relay.ip("-6", "route", "get", far)

        wait_until(is_learned, what="the MTU of the path is known")


def test_a_port_of_another_program_stays_its_own(lab: Lab) -> None:
    """An output with this `sport` receives nothing instead of the program."""
    rule = f"{GATEWAY[4]}:{PORT} to {FAR[4]}:7000,sport={PORT}"
    with lab.relay, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as program:
        program.bind((GATEWAY[4], PORT))
        with pytest.raises(mcr.McrError, match="another program has this port"):
            mcr.Relay(rule, ingress="udp").open()
