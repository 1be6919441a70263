"""More than the relay can hold, or larger than it expects: every loss is counted."""

import contextlib
import select
import signal
import time
from collections.abc import Iterator

from tests.support.deadline import wait_until

import mcr

from .checks import DEADLINE_S, assert_balanced, settle_sent
from .lab import JUMBO_MTU, Lab
from .namespaces import Namespace, Net
from .relays import Ingress, relaying
from .test_command import RULE, command
from .traffic import Receiver, Sender, payloads

LEAST_BUFFER_BYTES = 2**20
FLOOD = 60_000
MARKER_PATIENCE_S = 0.5  # for the first; each later one is given twice as long
MTU = 1500


def buffer_waits(relay: mcr.Relay) -> int:
    """How often receiving had to wait for a buffer."""
    return relay.stats().interfaces[0].buffer_waits


def test_tiny_buffers_under_bursts(lab: Lab, ingress: Ingress) -> None:
    """With a dozen buffers, frames wait in the socket: all arrive in order, and it is counted."""
    lab.set_offload(on=False)
    if ingress == "packet":  # Without GRO they would lie in a packet ring.
        Net.set_gro(lab.source, "s0", lab.relay, "in0", on=True)
    burst = payloads(1000)
    with (
        lab.receive("239.2.90.1", 6001) as receiver,
        relaying(
            lab.relay,
            "239.1.90.1%in0:5001 to 239.2.90.1%out0:6001",
            ingress=ingress,
            buffer_bytes=LEAST_BUFFER_BYTES,
        ) as relay,
        lab.sender("239.1.90.1", 5001) as sender,
    ):
        sent: list[bytes] = []
        deadline = time.monotonic() + DEADLINE_S
        while buffer_waits(relay) == 0:
            assert time.monotonic() < deadline, "the buffers always sufficed"
            sender.send_super(burst, batch=40)
            sent += burst
            receiver.expect(sent)
        (interface,) = settle_sent(relay, len(sent)).interfaces
        assert interface.received == interface.matched == len(sent)
        assert interface.kernel_dropped_frames == 0


def test_what_the_kernel_drops_is_counted(lab: Lab, ingress: Ingress) -> None:
    """A relay that is held up loses what its socket cannot hold, and says how much."""
    lab.set_offload(on=False)
    with (
        lab.receive("239.2.80.1", 6001) as receiver,
        lab.sender("239.1.80.1", 5001) as sender,
        command(lab, RULE, "--ingress", ingress, "--json") as relay,
    ):
        relay.wait_ready()
        relay.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: state(relay.process.pid) == "T")
        sender.send(payloads(FLOOD, (300,)))
        relay.process.send_signal(signal.SIGCONT)
        markers = send_until_one_arrives(sender, receiver)
        relay.process.send_signal(signal.SIGTERM)
        report = relay.report()
    assert_balanced(report)
    (interface,) = report["interfaces"]
    assert interface["kernel_dropped_frames"] > 0
    # A packet ring is queue and buffers in one.
    assert (interface["buffer_waits"] > 0) == (ingress == "udp")
    assert interface["received"] + interface["kernel_dropped_frames"] == FLOOD + markers
    assert interface["matched"] == interface["received"]


def state(pid: int) -> str:
    """The state of a process, one letter, from /proc/PID/stat."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def send_until_one_arrives(sender: Sender, receiver: Receiver) -> int:
    """Send markers until the last one has come through, and thus all before it; say how many."""
    looked_at, deadline = 0, time.monotonic() + DEADLINE_S
    for number in range(1, FLOOD):
        marker = b"marker %d" % number
        sender.send([marker])
        patience = time.monotonic() + MARKER_PATIENCE_S * 2 ** (number - 1)
        while (left := patience - time.monotonic()) > 0:
            select.select([receiver.socket], [], [], left)
            if marker in receiver.drain()[looked_at:]:
                return number
            looked_at = len(receiver.collected)
        assert time.monotonic() < deadline, "no marker came through"
    raise AssertionError("unreachable")


@contextlib.contextmanager
def jumbo(*links: tuple[Namespace, str]) -> Iterator[None]:
    """Raise the MTU of these interfaces for the time of the block."""
    for namespace, name in links:
        namespace.ip("link", "set", name, "mtu", str(JUMBO_MTU))
    try:
        yield
    finally:
        for namespace, name in links:
            namespace.ip("link", "set", name, "mtu", str(MTU))


def test_frame_larger_than_its_slot(lab: Lab) -> None:
    """Frames that outgrew the slots, made for the MTU of the opening, are fetched whole."""
    lab.set_offload(on=False)
    with (
        lab.receive("239.2.92.1", 6001) as receiver,
        relaying(
            lab.relay, "ff15::92:1%in0:5001 to 239.2.92.1%out0:6001", ingress="packet"
        ) as relay,
        lab.sender("ff15::92:1", 5001) as sender,
    ):
        fits, outgrown = payloads(20, (1400, 1452)), payloads(5, (5000,))
        with jumbo((lab.source, "s0"), (lab.relay, "in0")):
            sender.send([*fits, *outgrown, *fits])
            receiver.expect([*fits, *outgrown, *fits])
        settle_sent(relay, 2 * len(fits) + len(outgrown))
