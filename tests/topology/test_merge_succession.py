"""A worker that dies while it merges: its successor continues, and sends nothing again."""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import assert_balanced
from .daemons import serving
from .feeds import RULE, Feeds, number_of
from .lab import Lab
from .relays import Ingress

BEHIND = 20
"""Numbers by which the second feed is behind the first."""
MOST_GAP_S = 0.5


@pytest.mark.alone
@pytest.mark.parametrize(("workers", "mode"), [(1, "hash"), (2, "rtp"), (2, "rtp,reorder=100ms")])
def test_a_worker_may_die_while_one_feed_is_behind(
    lab: Lab, ingress: Ingress, workers: int, mode: str
) -> None:
    """Each in turn. What the slower feed delivers to the successor was sent before."""
    rule = RULE.replace("merge=rtp", f"merge={mode}")
    arguments = ("--ingress", ingress, "--workers", str(workers))
    with (
        serving(lab.relay, *arguments) as daemon,
        daemon.client() as client,
        Feeds(lab) as feeds,
    ):
        client.add_rule(rule)
        numbers: list[int] = []
        times: list[float] = []
        flow = Behind(feeds)

        def read() -> bool:
            got = feeds.receiver.drain()[len(numbers) :]
            numbers.extend(map(number_of, got))
            times.extend([time.monotonic()] * len(got))
            return bool(got)

        for worker in range(workers):
            flow.run(40, read)
            kill(client, worker)
            flow.run_until(partial(is_replaced, client, worker), read)
            flow.run(40, read)
        wait_until(lambda: not read() and numbers and numbers[-1] == flow.next - 1)
        assert_balanced(client.stats())
    assert len(set(numbers)) == len(numbers), "sent again"
    assert mode == "hash" or numbers == sorted(numbers)
    gaps = [after - before for before, after in pairwise(times)]
    assert max(gaps) < MOST_GAP_S
    # What a worker was handling when it died.
    assert flow.next - len(numbers) <= 10 * workers


class Behind:
    """Sends on both feeds, on the second one the numbers of a while ago."""

    def __init__(self, feeds: Feeds) -> None:
        self.feeds = feeds
        self.next = 0

    def run(self, count: int, read: Callable[[], object]) -> None:
        """Send this many numbers, one every few milliseconds."""
        end = self.next + count
        self.run_until(lambda: self.next >= end, read)

    def run_until(self, condition: Callable[[], bool], read: Callable[[], object]) -> None:
        """Send until the condition holds."""
        due_s = time.monotonic()
        while not condition():
            self.feeds.send(0, [self.next])
            if self.next >= BEHIND:
                self.feeds.send(1, [self.next - BEHIND])
            self.next += 1
            due_s += 0.004
            time.sleep(max(0.0, due_s - time.monotonic()))
            read()


def kill(client: mcr.Client, number: int) -> None:
    """Kill a worker."""
    pid = client.workers()[number].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def is_replaced(client: mcr.Client, number: int) -> bool:
    """Whether a worker has died, and its successor relays."""
    worker = client.workers()[number]
    return worker.deaths == 1 and worker.state == "running"
