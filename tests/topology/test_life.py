"""The life of a relay: threads, workers, stopping, idling, forking, garbage collection."""

import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import settle, settle_sent
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import PacedFlow, payloads

STOP_S = 1.0
IDLE_S = 2.0
IDLE_WAKE_UPS_PER_S = 10


def threads() -> set[str]:
    """The threads of this process."""
    return set(os.listdir("/proc/self/task"))


def wake_ups(which: set[str]) -> int:
    """The number of voluntary context switches of these threads."""
    total = 0
    for thread in which:
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/self/task/{thread}/status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    total += int(line.split()[1])
    return total


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_stop_is_prompt(lab: Lab, ingress: Ingress, busy: bool) -> None:
    """It takes less than a second, with and without traffic, and is idempotent."""
    with lab.sender("239.1.60.1", 5001) as sender, contextlib.ExitStack() as traffic:
        with lab.relay:
            relay = mcr.Relay("239.1.60.1%in0:5001 to 239.2.60.1%out0:6001", ingress=ingress)
            relay.open()
            relay.start()
        if busy:
            traffic.enter_context(PacedFlow(sender, 20000))
            settle_running(relay, least=1000)
        start = time.monotonic()
        relay.stop()
        assert relay.wait(0)
        assert relay.error is None
        relay.close()
        assert time.monotonic() - start < STOP_S
        relay.close()


def settle_running(relay: mcr.Relay, least: int) -> None:
    """Wait until the first output has sent at least this many."""
    wait_until(lambda: relay.stats().rules[0].outputs[0].sent >= least)


def test_idle_relay_sleeps(lab: Lab, ingress: Ingress) -> None:
    """With a hundred idle rules the engine wakes up at most ten times a second in all."""
    rules = [f"239.1.61.{n}%in0:5001 to 239.2.61.{n}%out0:6001" for n in range(100)]
    before = threads()
    with relaying(lab.relay, *rules, ingress=ingress):
        engine = threads() - before
        assert engine, "the engine has no thread"
        start, woken = time.monotonic(), wake_ups(engine)
        threading.Event().wait(IDLE_S)  # The length of the measurement, not a delay.
        elapsed = time.monotonic() - start
        assert (wake_ups(engine) - woken) / elapsed <= IDLE_WAKE_UPS_PER_S


def test_two_workers(lab: Lab, ingress: Ingress, gro: bool) -> None:
    """With two workers everything arrives, and each flow keeps its order."""
    flows = [[bytes([flow]) + body for body in payloads(100)] for flow in range(16)]
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(lab.receive("239.2.62.1", 6001))
        relay = stack.enter_context(
            relaying(
                lab.relay,
                "239.1.62.1%in0:5001 to 239.2.62.1%out0:6001",
                ingress=ingress,
                workers=2,
            )
        )
        senders = [stack.enter_context(lab.sender("239.1.62.1", 5001)) for _ in flows]
        for start in range(0, 100, 10):
            for sender, flow in zip(senders, flows, strict=True):
                sender.send(flow[start : start + 10])
        total = sum(len(flow) for flow in flows)
        received = receiver.wait_for(total)
        for number, flow in enumerate(flows):
            assert [one for one in received if one[0] == number] == flow
        stats = settle_sent(relay, total)
        assert stats.interfaces[0].received == total


def test_two_relays_in_one_process(lab: Lab) -> None:
    """On the same input, one of each ingress, independent of each other."""
    sent = payloads(200)
    with (
        lab.receive("239.2.63.1", 6001) as first,
        lab.receive("239.2.63.2", 6001) as second,
        relaying(lab.relay, "239.1.63.1%in0:5001 to 239.2.63.1%out0:6001", ingress="packet") as one,
        lab.sender("239.1.63.1", 5001) as sender,
    ):
        with relaying(
            lab.relay, "239.1.63.1%in0:5001 to 239.2.63.2%out0:6001", ingress="udp"
        ) as two:
            sender.send(sent)
            first.expect(sent)
            second.expect(sent)
            settle_sent(two, len(sent))
        sender.send(sent)
        first.expect(sent + sent)
        settle_sent(one, 2 * len(sent))
        assert second.drain() == sent


def test_calls_from_other_threads(lab: Lab, ingress: Ingress) -> None:
    """Several threads change rules and read statistics at once; the flow loses nothing."""
    problems: list[BaseException] = []

    def change(relay: mcr.Relay, number: int) -> None:
        try:
            with type(lab.relay)(lab.relay.name):
                for turn in range(10):
                    rule = mcr.Rule.parse(
                        f"239.1.64.{10 + number}%in0:5001 to 239.2.64.{turn}%out0:6001"
                    )
                    relay.add_rule(rule)
                    relay.stats()
                    relay.remove_rule(rule)
        except BaseException as error:  # The test's own thread reports it.
            problems.append(error)

    with (
        lab.receive("239.2.64.1", 6001) as receiver,
        relaying(
            lab.relay, "239.1.64.1%in0:5001 to 239.2.64.1%out0:6001", ingress=ingress
        ) as relay,
        lab.sender("239.1.64.1", 5001) as sender,
    ):
        with PacedFlow(sender, 5000) as flow:
            changing = [threading.Thread(target=change, args=(relay, n)) for n in range(4)]
            for thread in changing:
                thread.start()
            for thread in changing:
                thread.join()
        assert not problems
        receiver.expect(flow.sent)
        settle(relay, lambda stats: [rule.matched for rule in stats.rules] == [len(flow.sent)])


def test_wait_ends_when_another_thread_stops(lab: Lab) -> None:
    """A thread that waits for the end of a relay returns when another stops it."""
    ended: list[bool] = []
    rule = "239.1.65.1%in0:5001 to 239.2.65.1%out0:6001"
    with relaying(lab.relay, rule, ingress="packet") as relay:
        assert not relay.wait(0)
        waiting = threading.Thread(target=lambda: ended.append(relay.wait(STOP_S * 5)))
        waiting.start()
        relay.stop()
        waiting.join()
    assert ended == [True]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_is_an_error_in_the_child(lab: Lab, ingress: Ingress) -> None:
    """The child cannot use the relay, and the parent's continues."""
    sent = payloads(50)
    with (
        lab.receive("239.2.66.1", 6001) as receiver,
        relaying(
            lab.relay, "239.1.66.1%in0:5001 to 239.2.66.1%out0:6001", ingress=ingress
        ) as relay,
        lab.sender("239.1.66.1", 5001) as sender,
    ):
        calls = [
            relay.stats,
            lambda: relay.add_rule("239.1.66.2%in0:5001 to 239.2.66.2%out0:6001"),
            lambda: relay.wait(0),
        ]
        assert [in_child(call) for call in calls] == ["McrError"] * len(calls)
        sender.send(sent)
        receiver.expect(sent)
        settle_sent(relay, len(sent))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_can_forget_the_relay(
    lab: Lab, ingress: Ingress, capfd: pytest.CaptureFixture[str]
) -> None:
    """Dropping it neither fails nor waits for the parent's threads."""
    sent = payloads(50)
    with lab.relay:
        relays = [mcr.Relay("239.1.68.1%in0:5001 to 239.2.68.1%out0:6001", ingress=ingress)]
        relays[0].start()
    with lab.receive("239.2.68.1", 6001) as receiver, lab.sender("239.1.68.1", 5001) as sender:
        assert in_child(relays.pop) == "fine"
        assert not capfd.readouterr().err
        sender.send(sent)
        receiver.expect(sent)
    relays[0].close()


def in_child(call: Callable[[], object]) -> str:
    """What the call does in a forked child: "fine", "McrError", or another error's name."""
    results = ("fine", "McrError", "another error")
    child = os.fork()
    if child == 0:
        outcome = 2
        with contextlib.suppress(BaseException):
            try:
                call()
                outcome = 0
            except mcr.McrError:
                outcome = 1
        os._exit(outcome)
    status: list[int] = []

    def ended() -> bool:
        pid, code = os.waitpid(child, os.WNOHANG)
        status.extend([code] if pid else [])
        return bool(pid)

    try:
        wait_until(ended, what="the forked child hangs")
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return results[os.waitstatus_to_exitcode(status[0])]


@pytest.fixture
def no_leftover_relay() -> Iterator[None]:
    """Collect garbage before and after, so that a forgotten relay belongs to this test."""
    gc.collect()
    yield
    gc.collect()


@pytest.mark.usefixtures("no_leftover_relay")
def test_forgotten_relay_warns(lab: Lab, ingress: Ingress) -> None:
    """A relay dropped without `close` warns and leaves no socket behind."""
    with lab.relay:
        relay = mcr.Relay("239.1.67.1%in0:5001 to 239.2.67.1%out0:6001", ingress=ingress)
        relay.open()
        relay.start()
    before = threads()
    with pytest.warns(ResourceWarning):
        del relay  # CPython collects it at once.
    wait_until(lambda: threads() < before)
    wait_until(lambda: len(lab.relay.run("cat", "/proc/net/packet").splitlines()) == 1)
