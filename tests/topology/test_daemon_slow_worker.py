"""A worker that gets too little of a processor: slow, but neither silent nor replaced."""

import pytest

from .checks import assert_balanced, settle
from .daemons import serving
from .deaths import lost, slowed
from .lab import Lab
from .relays import Ingress
from .traffic import PacedFlow

pytestmark = pytest.mark.alone

RATE_PPS = 2000
RULE = "239.1.99.1%in0:5001 to 239.2.99.1%out0:6001"
STOPPED_S, RUNNING_S = 0.15, 0.01


def test_a_slow_worker_loses_nothing_that_fits(lab: Lab, ingress: Ingress) -> None:
    """Datagrams wait in its sockets; it turns late, in order, and is the same process."""
    lab.set_offload(on=False)
    with (
        serving(lab.relay, "--ingress", ingress) as daemon,
        daemon.client() as client,
        lab.receive("239.2.99.1", 6001) as receiver,
        lab.sender("239.1.99.1", 5001) as sender,
    ):
        client.add_rule(RULE)
        (pid,) = daemon.workers
        with PacedFlow(sender, RATE_PPS) as flow:
            with slowed(pid, stopped_s=STOPPED_S, running_s=RUNNING_S):
                flow.advance(RATE_PPS)
            flow.stop()
        receiver.wait_for_payload(flow.sent[-1])
        assert lost(flow.sent, receiver) == 0
        stats = settle(client, lambda stats: stats.rules[0].matched == len(flow.sent))
        assert_balanced(stats)
        assert stats.totals.kernel_dropped_frames == 0
        (worker,) = client.workers()
        assert (worker.pid, worker.deaths) == (pid, 0)
