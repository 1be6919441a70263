"""Several workers: flows are distributed, and each keeps its order under load."""

import contextlib
import os
from pathlib import Path

from .checks import settle_sent
from .lab import Lab
from .relays import relaying
from .traffic import payloads

FLOWS = 16
OUTPUTS = 20
ROUNDS = 60
BURST = 10
SIZES = tuple(range(200, 264))  # rising, so that nearly every copy is a send of its own


def sleeps(process: int | str = "self") -> list[int]:
    """The number of times that each engine of a process has slept."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        if (task / "comm").read_text().startswith("mcr-engine-"):
            status = (task / "status").read_text()
            found.append(int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0]))
    return found


def test_two_workers_share_flows_and_keep_their_order(lab: Lab, gro: bool) -> None:
    """One to twenty, sixteen flows in bursts: at every output each flow is whole and in order."""
    bodies = payloads(ROUNDS * BURST, SIZES)
    flows = [[bytes([flow]) + body for body in bodies] for flow in range(FLOWS)]
    outputs = [f"239.2.69.{number}%out0:6001" for number in range(OUTPUTS)]
    cpus = sorted(os.sched_getaffinity(0))[:2]
    with contextlib.ExitStack() as stack:
        first, last = (
            stack.enter_context(lab.receive(f"239.2.69.{number}", 6001))
            for number in (0, OUTPUTS - 1)
        )
        relay = stack.enter_context(
            relaying(
                lab.relay,
                f"239.1.69.1%in0:5001 to {' '.join(outputs)}",
                ingress="packet",
                workers=len(cpus),
                cpus=cpus,
            )
        )
        senders = [stack.enter_context(lab.sender("239.1.69.1", 5001)) for _ in flows]
        before = sleeps()
        for start in range(0, len(bodies), BURST):
            for sender, flow in zip(senders, flows, strict=True):
                sender.send(flow[start : start + BURST])
        total = FLOWS * len(bodies)
        for receiver in (first, last):
            received = receiver.wait_for(total)
            for number, flow in enumerate(flows):
                assert [one for one in received if one[0] == number] == flow
        stats = settle_sent(relay, *[total] * OUTPUTS)
        assert stats.interfaces[0].matched == total
        assert all(now > then for then, now in zip(before, sleeps(), strict=True)), "one was idle"
