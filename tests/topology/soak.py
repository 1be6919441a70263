"""`make soak`: a daemon under traffic, changes, deaths and flapping interfaces for a long time.

Flows that none of this is about are sent all the time by processes of their own, and every number
is checked at their end. Meanwhile every reading balances, and no counter goes back. Control and
worker 1 are killed in the first half only: in the second half no process may grow.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tests.support.deadline import wait_until

import mcr

from .bulk import Bulk, bulk_flow
from .checks import assert_balanced, settle
from .daemons import Daemon, serving
from .lab import Lab
from .namespaces import Net, remove_leftovers, run
from .rights import missing
from .soak_course import Course, Sizes

FLOWS = 3
FLOW_PPS = 2000
STEADY = [f"239.1.49.{n}%in0:5001,name=steady-{n} to 239.2.49.{n}%out0:6001" for n in range(FLOWS)]
FLAPPING = [f"239.1.50.{n}%big:5001 to 239.2.50.{n}%out1:6001 10.3.0.2:7000" for n in range(40)]
PAIRS = 10
IN_HAND_S = 0.5
"""What a killed worker may take with it, beside what its sockets cannot keep meanwhile."""
MOMENTS = 120
"""How often its processes are looked at, in equal distances, for the plots."""
REPORT = Path("target", "soak")
_PAUSE_S = 0.05
T = TypeVar("T")


class Soak:
    """The disturbances, and what every reading must fulfil."""

    def __init__(self, lab: Lab, daemon: Daemon, seed: int) -> None:
        """Begin with the rules of the steady flows."""
        self.done = Counter[str]()
        self.outage_s = 0.0
        """How long workers were away after their deaths, together."""
        self._lab, self._daemon = lab, daemon
        self._random = random.Random(seed)
        self._matched = [0] * FLOWS
        self.ask(lambda client: client.replace_rules(STEADY))

    def ask(self, request: Callable[[mcr.Client], T]) -> T:
        """Ask the daemon, again if control dies meanwhile."""
        answers: list[T] = []

        def is_answered() -> bool:
            with contextlib.suppress(mcr.DaemonError, OSError), self._daemon.client() as client:
                answers.append(request(client))
            return bool(answers)

        wait_until(is_answered, 90, "an answer")
        return answers[0]

    def read(self) -> mcr.DaemonStats:
        """Read the counters: they balance, and none goes back."""
        stats = self.ask(lambda client: client.stats())
        assert_balanced(stats)
        matched = [rule.matched for rule in stats.rules[:FLOWS]]
        assert all(now >= before for now, before in zip(matched, self._matched, strict=True))
        self._matched = matched
        self.done["readings"] += 1
        return stats

    def disturb(self, *, may_kill: bool) -> None:
        """Do one thing of those that happen to a daemon."""
        deeds = {self.change: 20, self.flap: 6, self.churn: 2, self.follow: 2}
        if may_kill:
            deeds |= {self.kill_worker: 1, self.kill_control: 1}
        (deed,) = self._random.choices(list(deeds), list(deeds.values()))
        deed()
        self.done[deed.__name__] += 1

    def change(self) -> None:
        """Replace all rules but the steady ones, some of them disabled."""
        chosen = self._random.sample(FLAPPING, self._random.randrange(len(FLAPPING)))
        self.ask(lambda client: client.replace_rules([*STEADY, *chosen]))
        if chosen:
            rule = mcr.Rule.parse(chosen[0])
            self.ask(lambda client: client.disable_rule(rule))

    def flap(self) -> None:
        """Take an input or an output of the other rules down for a moment, or change its MTU."""
        interface = self._random.choice(["big", "out1"])
        if self._random.random() < 0.5:
            self._lab.relay.ip("link", "set", interface, "mtu", "1400")
            self._lab.relay.ip("link", "set", interface, "mtu", "1500")
            return
        with self._lab.relay.down(interface):
            time.sleep(self._random.random() * 0.2)

    def churn(self) -> None:
        """Make and delete interfaces that no rule names, as containers do."""
        name = self._lab.relay.name
        for number in range(PAIRS):
            pair = ("type", "veth", "peer", "name", f"y{number}")
            run("ip", "-n", name, "link", "add", f"x{number}", "group", "78", *pair)
        run("ip", "-n", name, "link", "del", "group", "78")

    def follow(self) -> None:
        """Read what clients read beside the counters."""
        self.ask(lambda client: (client.flows(limit=100), client.workers(), client.rules()))

    def kill_worker(self) -> None:
        """Kill worker 1, and wait for its successor."""
        worker = self.ask(lambda client: client.workers())[1]
        if worker.pid is not None:
            os.kill(worker.pid, signal.SIGKILL)

        def is_replaced() -> bool:
            now = self.ask(lambda client: client.workers())[1]
            return now.state == "running" and now.pid != worker.pid

        wait_until(is_replaced, 60, "a successor")
        death = self.ask(lambda client: client.workers())[1].last_death
        assert death is not None
        assert death.outage_ms is not None
        self.outage_s += death.outage_ms / 1000

    def kill_control(self) -> None:
        """Kill control; the next request waits for its successor."""
        os.kill(self.ask(lambda client: client.hello()).pid, signal.SIGKILL)

    def pids(self) -> dict[str, int]:
        """The processes of the daemon by their roles, but for a worker that is dead."""
        control = self.ask(lambda client: client.hello()).pid
        pids = {"supervisor": self._daemon.supervisor, "control": control}
        for worker in self.ask(lambda client: client.workers()):
            if worker.pid is not None:
                pids[f"worker {worker.number}"] = worker.pid
        return pids

    def sizes(self) -> dict[str, Sizes]:
        """What each process holds with the rules of the steady flows only, by its role."""
        self.ask(lambda client: client.replace_rules(STEADY))
        return {role: Sizes.at_rest(pid) for role, pid in self.pids().items()}


def soak(lab: Lab, seconds: float, seed: int = 1, course: Course | None = None) -> Iterator[str]:
    """Run for so long; yield the lines of the report. What was seen meanwhile is in `course`.

    Raises:
        AssertionError: something was lost, went out of balance or grew.
    """
    course = Course() if course is None else course
    lab.set_offload(on=True)
    options = ("--ingress", "packet", "--workers", "2", "--flows", "--latency")
    with serving(lab.relay, *options) as daemon, contextlib.ExitStack() as stack:
        state = Soak(lab, daemon, seed)
        ends = [((f"239.1.49.{n}", 5001), (f"239.2.49.{n}", 6001)) for n in range(FLOWS)]
        flows = [
            stack.enter_context(bulk_flow(lab, *end, rate_pps=FLOW_PPS, batch=5)) for end in ends
        ]
        began_s, half = time.monotonic(), dict[str, Sizes]()
        while (passed_s := time.monotonic() - began_s) < seconds:
            state.disturb(may_kill=passed_s < seconds / 2)
            stats = state.read()
            if passed_s >= len(course.moments) * seconds / MOMENTS:
                course.note(passed_s, state.pids(), stats.rules[:FLOWS])
            if passed_s >= seconds * 0.6 and not half:
                half = state.sizes()
            time.sleep(_PAUSE_S)
        late = state.sizes()
        yield from judge(state, [flow.end() for flow in flows])
        yield from judge_sizes(half or late, late)
        yield course.drift()


def judge(state: Soak, flows: list[Bulk]) -> Iterator[str]:
    """Every number that was sent arrived once and in order, but for those of killed workers."""
    kills = state.done["kill_worker"]
    most = int(FLOW_PPS * (state.outage_s + kills * IN_HAND_S))
    state.ask(lambda client: client.replace_rules(STEADY))
    stats = state.ask(lambda client: settle(client, lambda stats: not stats.stale_workers))
    yield ", ".join(f"{name} {count}" for name, count in sorted(state.done.items()))
    for flow, rule in zip(flows, stats.rules, strict=True):
        (output,) = rule.outputs
        yield (
            f"sent {flow.sent}, received {flow.received}, lost {flow.lost}; counted: matched"
            f" {rule.matched}, sent {output.sent}; longest silence {flow.longest_gap_ms:.0f} ms"
        )
        assert (flow.late, flow.own_loss) == (0, 0), flow
        assert flow.received + flow.lost == flow.sent, flow
        assert flow.lost <= most, (most, flow)
        assert output.lost == 0, output
        # A worker that is killed takes the counts of its last turn with it.
        assert 0 <= flow.received - output.sent <= kills * FLOW_PPS * IN_HAND_S, (kills, flow)
    kernel = stats.totals.kernel_dropped_frames
    yield f"workers were away for {state.outage_s:.1f} s; the kernel dropped {kernel} frames"
    assert kernel == 0 or kills


def judge_sizes(half: dict[str, Sizes], late: dict[str, Sizes]) -> Iterator[str]:
    """No process holds more at the end than it did after the last death."""
    for role, now in late.items():
        yield f"{role}: {tuple(half[role])} (KiB, descriptors, threads), at the end {tuple(now)}"
    grown = {role: now for role, now in late.items() if now.has_grown(half[role])}
    assert not grown, (half, late)


def main() -> int:
    """Print the report, and draw its plots; exit code 1 if anything was not as it should be."""
    parser = argparse.ArgumentParser(prog="make soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1, help="of the order of disturbances")
    given = parser.parse_args()
    if reason := missing():
        print(f"the soak needs namespaces: {reason}", file=sys.stderr)
        return 1
    remove_leftovers()
    course = Course()
    REPORT.mkdir(parents=True, exist_ok=True)
    try:
        with Net() as net, REPORT.joinpath("report.txt").open("w") as report:
            for line in soak(Lab.build(net), given.minutes * 60, given.seed, course):
                print(line, flush=True)
                print(line, file=report)
    except AssertionError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    finally:
        REPORT.joinpath("plot.svg").write_text(course.as_svg())
        print(f"plots: {REPORT.joinpath('plot.svg')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
