"""The networks most tests run on.

        source namespace         relay namespace          receiver namespace
        s0 10.1.0.2, .3   ----   in0  10.1.0.1
        s1 (jumbo)        ----   big  10.4.0.1  MTU 9000
        s2 10.6.0.2       ----   bare (no address at all)
                                 out0 10.2.0.1      ----  d0 10.2.0.2
                                 out1 10.3.0.1      ----  d1 10.3.0.2
                                 bigout 10.5.0.1    ----  d2 10.5.0.2  MTU 9000

IPv6 addresses follow the same pattern: fd01::2 for 10.1.0.2 and so on.
"""

from dataclasses import dataclass
from typing import Self

from .namespaces import Namespace, Net
from .traffic import Receiver, Sender

JUMBO_MTU = 9000


@dataclass(frozen=True, slots=True)
class Lab:
    """One source, one relay host, one receiver."""

    source: Namespace
    relay: Namespace
    receiver: Namespace

    @classmethod
    def build(cls, net: Net) -> Self:
        """Make the namespaces, links and addresses."""
        source, relay, receiver = (net.namespace() for _ in range(3))
        lab = cls(source, relay, receiver)
        for number, near, far, mtu in ((1, "s0", "in0", 1500), (4, "s1", "big", JUMBO_MTU)):
            net.link(source, near, relay, far, mtu=mtu)
            source.address(near, *_host(number, 2), *_host(number, 3))
            relay.address(far, *_host(number, 1))
        net.link(source, "s2", relay, "bare")
        source.address("s2", *_host(6, 2))
        for number, near, far, mtu in (
            (2, "out0", "d0", 1500),
            (3, "out1", "d1", 1500),
            (5, "bigout", "d2", JUMBO_MTU),
        ):
            net.link(relay, near, receiver, far, mtu=mtu)
            relay.address(near, *_host(number, 1))
            receiver.address(far, *_host(number, 2))
            # So what two engines send into one interface keeps its order.
            net.set_gro(relay, near, receiver, far, on=True)
        return lab

    def set_offload(self, *, on: bool) -> None:
        """Super-frames on the wire and GRO at the ingress, or every datagram a frame."""
        Net.set_gro(self.source, "s0", self.relay, "in0", on=on)
        for namespace, interface in (
            (self.source, "s0"),
            (self.relay, "out0"),
            (self.relay, "out1"),
        ):
            namespace.offload(interface, gso=on, tx_udp_segmentation=on)

    def sender(
        self,
        group: str,
        port: int,
        *,
        interface: str = "s0",
        source: tuple[str, int] | None = None,
    ) -> Sender:
        """A sender in the source namespace."""
        return Sender(self.source, interface, group, port, source=source)

    def receive(self, group: str, port: int, interface: str = "d0") -> Receiver:
        """A receiver in the receiver namespace."""
        return Receiver(self.receiver, interface, group, port)


def _host(network: int, host: int) -> tuple[str, str]:
    return f"10.{network}.0.{host}/24", f"fd{network:02x}::{host}/64"
