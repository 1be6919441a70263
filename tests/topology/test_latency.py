"""Latency through a relay of the library and a daemon, against what senders and receivers see."""

import os
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.deadline import wait_until

import mcr

from .daemons import serving
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import payloads

GROUPS = {"239.1.47.1": "239.2.47.1", "ff15::47:1": "ff15::47:2"}
RULES = tuple(f"{group}%in0:5001 to {out}%out0:6001" for group, out in GROUPS.items())
COUNT = 60
"""Enough for a median, and fewer than those after which a busy socket skips some."""
MANY = 4000
STOP_S = 0.2
LEAST_US = 1
"""No system call is faster."""


def latency_of(rule: mcr.RuleStats) -> mcr.LatencyStats:
    """The latency, which must be measured and add up."""
    found = rule.latency
    assert found is not None
    assert found.samples + found.unmeasured == rule.matched
    assert found.samples == sum(count for _, _, count in found.buckets)
    return found


def measured(read: Callable[[], mcr.Stats], rule: int, count: int) -> mcr.LatencyStats:
    """Wait until so many datagrams of a rule were sent; return their latency."""
    wait_until(lambda: all(output.sent == count for output in read().rules[rule].outputs))
    return latency_of(read().rules[rule])


def test_it_is_a_part_of_the_whole_way(lab: Lab, ingress: Ingress) -> None:
    """Of both families, one by one: shorter than from the sender's call to the receiver's."""
    with relaying(lab.relay, *RULES, ingress=ingress, latency=True) as relay:
        for number, (group, out) in enumerate(GROUPS.items()):
            whole_us = []
            with lab.sender(group, 5001) as sender, lab.receive(out, 6001) as receiver:
                for datagram in payloads(COUNT, [100]):
                    began_ns = time.time_ns()
                    sender.send([datagram])
                    receiver.wait_for(1)
                    whole_us.append((time.time_ns() - began_ns) / 1000)
                    receiver.forget()
            found = measured(relay.stats, number, COUNT)
            assert (found.samples, found.unmeasured) == (COUNT, 0)
            assert found.p50_us is not None
            assert found.p99_us is not None
            assert found.max_us is not None
            assert LEAST_US < found.p50_us <= found.p99_us <= found.max_us < sum(whole_us)
            # The end of a send is seen a little after its datagram has arrived.
            assert found.p50_us < 1.5 * statistics.median(whole_us)
            # Once the engine may have had to wait for a processor before it saw that end.
            assert found.sum_us - found.max_us < 1.5 * sum(whole_us)
            assert found.percentile(100) == found.max_us


def test_a_super_frame_counts_its_datagrams(lab: Lab, ingress: Ingress) -> None:
    """Each with the time of the frame, which arrived whole."""
    lab.set_offload(on=True)
    try:
        with (
            relaying(lab.relay, *RULES, ingress=ingress, latency=True) as relay,
            lab.sender("239.1.47.1", 5001) as sender,
            lab.receive("239.2.47.1", 6001) as receiver,
        ):
            datagrams = payloads(COUNT)
            sender.send_super(datagrams)
            receiver.expect(datagrams)
            found = measured(relay.stats, 0, COUNT)
            assert (found.samples, found.unmeasured) == (COUNT, 0)
            relay.remove_rule(relay.rules[0])
            relay.add_rule(RULES[0])
            assert latency_of(relay.stats().rules[-1]).samples == 0
    finally:
        lab.set_offload(on=False)


def test_a_busy_socket_measures_a_part_and_a_ring_all(lab: Lab, ingress: Ingress) -> None:
    """Both count all that is relayed."""
    lab.set_offload(on=False)
    with (
        relaying(lab.relay, *RULES, ingress=ingress, latency=True) as relay,
        lab.sender("239.1.47.1", 5001) as sender,
    ):
        sender.send(payloads(MANY, [100]))
        found = measured(relay.stats, 0, MANY)
        assert found.samples >= COUNT
        assert (found.unmeasured == 0) == (ingress == "packet")


def test_it_is_off_by_default(lab: Lab, ingress: Ingress) -> None:
    """Then no rule has it."""
    with relaying(lab.relay, *RULES, ingress=ingress) as relay:
        assert [rule.latency for rule in relay.stats().rules] == [None, None]


def test_a_worker_that_stands_still_shows(lab: Lab, ingress: Ingress) -> None:
    """The longest time is that of its stop; histograms survive the worker."""
    options = ("--ingress", ingress, "--latency")
    with (
        serving(lab.relay, *options) as daemon,
        daemon.client() as client,
        lab.sender("239.1.47.1", 5001) as sender,
        lab.receive("239.2.47.1", 6001) as receiver,
    ):
        client.add_rules(RULES)
        sender.send([b"first"])
        receiver.wait_for(1)
        (worker,) = daemon.workers
        os.kill(worker, signal.SIGSTOP)
        wait_until(
            lambda: Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        )
        began_s = time.monotonic()
        sender.send([b"held"])
        sent_s = time.monotonic()
        time.sleep(STOP_S)  # what is to be measured
        resumed_s = time.monotonic()
        os.kill(worker, signal.SIGCONT)
        receiver.wait_for(2)
        found = measured(client.stats, 0, 2)
        assert found.max_us is not None
        assert resumed_s - sent_s < found.max_us / 1e6 < time.monotonic() - began_s
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: [(w.deaths, w.state) for w in client.workers()] == [(1, "running")])
        sender.send([b"last"])
        receiver.wait_for(3)
        again = measured(client.stats, 0, 3)
        assert (again.samples, again.max_us) == (3, found.max_us)
