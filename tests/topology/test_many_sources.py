"""A hundred thousand senders of one group: their number costs neither memory nor a datagram."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address

import pytest

import mcr

from .checks import settle
from .daemons import memory_kib, serving
from .frames import Flow, Injector, udp_frame
from .lab import Lab

RULE = "239.1.48.1%in0:5001,name=feed to 239.2.48.1%out0:6001"
MANY = 100_000
FILLED = 50_000
BURST = 500
MAX_FLOWS = 8192
"""Those that a worker knows (docs/observability.md)."""
GROWTH_KIB = 6144


def frames(numbers: Iterable[int]) -> Iterator[bytes]:
    """One datagram of each of these senders."""
    first = IPv4Address("10.64.0.0")
    for number in numbers:
        yield udp_frame(Flow(str(first + number), "239.1.48.1", 5001), b"one")


def send_burst(client: mcr.Client, injector: Injector, numbers: range) -> None:
    """Have some more senders send, and wait until all of them are counted."""
    injector.send(*frames(numbers))
    settle(client, lambda stats: stats.totals.matched == numbers.stop)


@pytest.mark.timeout(240)
def test_a_hundred_thousand_senders(lab: Lab) -> None:
    """All are relayed; what the table of flows cannot keep is counted, and no process grows."""
    lab.set_offload(on=False)
    with (
        serving(lab.relay, "--ingress", "packet", "--flows") as daemon,
        daemon.client() as client,
        Injector(lab.source, "s0") as injector,
    ):
        client.add_rule(RULE)

        def send(numbers: range) -> list[int]:
            for start in range(numbers.start, numbers.stop, BURST):
                send_burst(client, injector, range(start, start + BURST))
            return [memory_kib(pid) for pid in daemon.processes]

        filled = send(range(FILLED))
        late = send(range(FILLED, MANY))
        stats = settle(client, lambda stats: stats.rules[0].outputs[0].sent == MANY)
        flows = client.flows(limit=10_000)
        print(f"{filled} KiB with {FILLED} senders, {late} KiB with {MANY}; {flows.total} flows")
        assert stats.totals.kernel_dropped_frames == 0
        assert flows.total <= MAX_FLOWS
        assert flows.total + stats.rules[0].flows_evicted == MANY
        for before, after in zip(filled, late, strict=True):
            assert after < before + GROWTH_KIB
