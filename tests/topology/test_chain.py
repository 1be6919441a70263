"""Three relays in a row, in a ring of four namespaces: what one sends the next receives."""

import contextlib
from dataclasses import dataclass

import pytest

from .checks import settle_sent
from .namespaces import Namespace, Net
from .relays import Ingress, relaying
from .traffic import Receiver, Sender, payloads

HOPS = 3


@dataclass(frozen=True, slots=True)
class Ring:
    """The first namespace sends and receives, each of the others relays from in to out."""

    namespaces: list[Namespace]

    def set_offload(self, *, on: bool) -> None:
        """Super-frames on every link, or every datagram a frame.

        GRO is on either way: it is what keeps the order when a relay's engine moves to another
        processor.
        """
        for namespace in self.namespaces:
            namespace.offload("out", gso=on, tx_udp_segmentation=on)


@pytest.fixture(scope="module")
def ring(net: Net) -> Ring:
    """Four namespaces, each one's ``out`` joined to the next one's ``in``."""
    namespaces = [net.namespace() for _ in range(HOPS + 1)]
    for number, near in enumerate(namespaces):
        far = namespaces[(number + 1) % len(namespaces)]
        net.link(near, "out", far, "in")
        near.address("out", f"10.{20 + number}.0.1/24")
        far.address("in", f"10.{20 + number}.0.2/24")
        net.set_gro(near, "out", far, "in", on=True)
    return Ring(namespaces)


@pytest.mark.parametrize("large", [False, True], ids=["plain", "super"])
def test_chain_of_three_relays(ring: Ring, ingress: Ingress, large: bool) -> None:
    """Everything comes round, in order, and every relay's numbers are the same."""
    ring.set_offload(on=large)
    home = ring.namespaces[0]
    sent = payloads(400)
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(Receiver(home, "in", "239.4.0.3", 5003))
        relays = [
            stack.enter_context(
                relaying(
                    namespace,
                    f"239.4.0.{hop}%in:{5000 + hop} to 239.4.0.{hop + 1}%out:{5001 + hop}",
                    ingress=ingress,
                )
            )
            for hop, namespace in enumerate(ring.namespaces[1:])
        ]
        sender = stack.enter_context(Sender(home, "out", "239.4.0.0", 5000))
        (sender.send_super if large else sender.send)(sent)
        receiver.expect(sent)
        for relay in relays:
            stats = settle_sent(relay, len(sent))
            assert stats.interfaces[0].received == len(sent)
