"""Outputs that are paced: how far apart copies arrive, by the kernel's time stamps."""

import time
from collections.abc import Sequence
from itertools import pairwise

import pytest

from .checks import assert_balanced
from .daemons import put_first, serving
from .egress import OUT_PORT, Kind, flow, output, relayed, rule
from .lab import Lab
from .relays import Ingress
from .timing import TimedReceiver
from .traffic import payloads

RATE_PPS = 50_000
SPACING_S = 1 / RATE_PPS
SUPER = 60
MOST_RUN = 4
SIZE = 1000


def largest_run(times_s: Sequence[float]) -> int:
    """The most datagrams in sequence of which each follows within a quarter of the spacing."""
    largest = run = 1
    for before_s, now_s in pairwise(times_s):
        run = run + 1 if now_s - before_s < SPACING_S / 4 else 1
        largest = max(largest, run)
    return largest


@pytest.mark.parametrize(
    ("kind", "ingress", "version", "options"),
    [
        ("library", "packet", 4, ",rate=50kpps,pace=on"),
        ("library", "udp", 6, ",rate=400mbit,queue=50ms,pace=on"),
        ("daemon", "packet", 6, ",rate=50kpps,pace=on,ttl=keep"),
    ],
)
def test_pacing_takes_a_super_frame_apart(
    lab: Lab, kind: Kind, ingress: Ingress, version: int, options: str
) -> None:
    """A neighbour gets each super-frame at once, the paced output single datagrams."""
    lab.set_offload(on=True)
    paced = output(1, version=version, options=options)
    text = rule(1, paced, output(2, version=version), version=version)
    groups = [part.partition("%")[0] for part in text.split(" to ")[1].split()]
    sent = payloads(5 * SUPER, (SIZE,))
    with (
        TimedReceiver(lab, groups[0], OUT_PORT) as one_by_one,
        TimedReceiver(lab, groups[1], OUT_PORT) as at_once,
        relayed(lab, kind, ingress, text) as stats,
        lab.sender(flow(1, version).group, flow(1, version).port) as sender,
    ):
        for start in range(0, len(sent), SUPER):
            sender.send_super(sent[start : start + SUPER], batch=SUPER)
            one_by_one.wait_for(start + SUPER)
        one_by_one.expect(sent)
        at_once.expect(sent)
        assert_balanced(stats())
    assert largest_run(at_once.times_s) >= SUPER, "the test's sender makes no bursts"
    assert largest_run(one_by_one.times_s) <= MOST_RUN
    for start in range(0, len(sent), SUPER):
        elapsed_s = one_by_one.times_s[start + SUPER - 1] - one_by_one.times_s[start]
        # A copy that is late is made up for by those behind it, at half of the spacing.
        assert elapsed_s >= 0.45 * (SUPER - 1) * SPACING_S


def test_a_steady_stream_of_super_frames_is_spaced(lab: Lab) -> None:
    """For a second, 50,000 datagrams a second in bursts of 60: all arrive, in runs of at most 4."""
    lab.set_offload(on=True)
    text = rule(1, output(1, options=",rate=60kpps,pace=on,queue=500ms"))
    group = text.split(" to ")[1].partition("%")[0]
    sent = payloads(RATE_PPS // SUPER * SUPER, (SIZE,))
    with (
        TimedReceiver(lab, group, OUT_PORT) as receiver,
        serving(lab.relay) as daemon,
        daemon.client() as client,
        lab.sender(flow(1).group, flow(1).port) as sender,
    ):
        client.add_rule(text)
        put_first(daemon)
        starts_s = time.monotonic()
        for start in range(0, len(sent), SUPER):
            time.sleep(max(0.0, starts_s + start * SPACING_S - time.monotonic()))
            sender.send_super(sent[start : start + SUPER], batch=SUPER)
        receiver.expect(sent)
        assert_balanced(client.stats())
    assert largest_run(receiver.times_s) <= MOST_RUN
