"""IPv4 broadcasts in and out: to all networks of a link, and to one network."""

import pytest

from .checks import settle_sent
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import Receiver, payloads

LINK = "255.255.255.255"
KINDS = pytest.mark.parametrize("to", ["link", "network"])


@KINDS
def test_broadcast_in(lab: Lab, ingress: Ingress, gro: bool, to: str) -> None:
    """Broadcasts become a group; another program that listens to them still hears them."""
    sent = payloads(200)
    address, source = (LINK, f"{LINK}%in0") if to == "link" else ("10.1.0.255", "10.1.0.255")
    with (
        Receiver(lab.relay, "in0", "0.0.0.0", 5601) as beside,
        lab.receive("239.2.60.1", 6001) as receiver,
        relaying(lab.relay, f"{source}:5601 to 239.2.60.1%out0:6001", ingress=ingress) as relay,
        lab.sender(address, 5601) as sender,
    ):
        (sender.send_super if gro else sender.send)(sent)
        receiver.expect(sent)
        beside.expect(sent)
        settle_sent(relay, len(sent))


@KINDS
def test_broadcast_out(lab: Lab, ingress: Ingress, gro: bool, to: str) -> None:
    """A group becomes broadcasts, which leave by the named or the network's own interface only."""
    sent = payloads(200)
    address, output = (LINK, f"{LINK}%out0") if to == "link" else ("10.2.0.255", "10.2.0.255")
    with (
        Receiver(lab.receiver, "d0", address, 6601) as first,
        Receiver(lab.receiver, "d0", "0.0.0.0", 6601) as second,
        Receiver(lab.receiver, "d1", "0.0.0.0", 6601) as elsewhere,
        relaying(
            lab.relay, f"239.1.61.1%in0:5001 to {output}:6601,ttl=3", ingress=ingress
        ) as relay,
        lab.sender("239.1.61.1", 5001) as sender,
    ):
        (sender.send_super if gro else sender.send)(sent)
        first.expect(sent)
        second.expect(sent)
        stats = settle_sent(relay, len(sent))
        assert stats.rules[0].outputs[0].lost == 0
        assert {source for source, _ in first.sources} == {"10.2.0.1"}
        assert elsewhere.drain() == []


def test_broadcast_without_an_address_of_the_input(lab: Lab, ingress: Ingress) -> None:
    """An input for broadcasts needs no address on its interface either."""
    with (
        lab.receive("239.2.62.1", 6001) as receiver,
        relaying(lab.relay, f"{LINK}%bare:5602 to 239.2.62.1%out0:6001", ingress=ingress) as relay,
        lab.sender(LINK, 5602, interface="s2") as sender,
    ):
        sender.send([b"announcement"])
        receiver.expect([b"announcement"])
        settle_sent(relay, 1)
