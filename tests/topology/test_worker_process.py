"""A worker process with the test as supervisor and control: start, running, exit."""

import contextlib
import os
import re
import resource
import signal
import time
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.worker_process import Json, WorkerProcess, WorkerRefusal, WorkerResources

from .lab import Lab
from .traffic import PacedFlow, payloads
from .workers import OTHER, RULE, report, resolved, sent, start, wait_for_sent

RATE_PPS = 5000


def test_a_worker_started_as_root_becomes_another_user(
    lab: Lab, resources: WorkerResources
) -> None:
    """With the given user and group, and no other group."""
    # A user's processes share the limit of locked memory, so it is none that has others.
    user = 60_000 + os.getpid() % 5000
    with contextlib.ExitStack() as stack:
        with lab.relay:
            worker = stack.enter_context(WorkerProcess(resources, uid=user, gid=user))
        control = worker.connect()
        control.change(1, resolved(lab, RULE), whole=True)
        status = Path(f"/proc/{worker.process.pid}/status").read_text()
        ids = f"\t{user}" * 4
        assert "Uid:" + ids in status
        assert "Gid:" + ids in status
        with lab.sender("239.1.60.1", 5001) as sender:
            sender.send(payloads(10))
            wait_for_sent(control, 10)


def test_an_engine_that_ends_ends_its_process(lab: Lab) -> None:
    """For lack of memory: control gets the reason, and the exit code shows it."""
    with WorkerResources("udp") as resources, contextlib.ExitStack() as stack:
        worker = start(lab, resources, stack)
        control = worker.connect()
        control.ask("hello")
        pid = worker.process.pid
        (size,) = re.findall(r"VmSize:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        limit = (int(size) + 512) << 10
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
        control.prepare(1, resolved(lab, RULE), whole=True)
        with pytest.raises(WorkerRefusal) as refused:
            control.ask("commit")
        assert refused.value.failure["kind"] == "engine"
        assert control.wait_for_event("engine")["error"]
        assert worker.process.wait(5.0) == 70


def test_counters_continue_after_a_kill(lab: Lab, resources: WorkerResources) -> None:
    """The successor on the same page continues them, and drops rules that it does not get."""
    rules = resolved(lab, RULE, OTHER)
    with lab.receive("239.2.60.1", 6001) as receiver, lab.sender("239.1.60.1", 5001) as sender:
        for life in range(3):
            with lab.relay:
                worker = WorkerProcess(resources)
            with worker:
                control = worker.connect()
                control.change(life + 1, rules, whole=True)
                assert sent(control) == 25 * life
                sender.send(payloads(25, seed=life))
                receiver.wait_for(25 * life + 25)
                wait_for_sent(control, 25 * life + 25)
                assert report(control)["interfaces"][0]["received"] == 25 * life + 25
                worker.kill()
    with lab.relay:
        worker = WorkerProcess(resources)
    with worker:
        control = worker.connect()
        control.change(1, rules[1:], whole=True)
        control.change(2, rules)
        assert sorted(rule["matched"] for rule in report(control)["rules"]) == [0, 0]


def test_a_kill_under_load_costs_a_moment(lab: Lab, resources: WorkerResources) -> None:
    """Datagrams queue in the sockets meanwhile; the copies in progress are lost."""
    rules = resolved(lab, RULE)
    with (
        lab.receive("239.2.60.1", 6001) as receiver,
        lab.sender("239.1.60.1", 5001) as sender,
        contextlib.ExitStack() as stack,
    ):
        first = start(lab, resources, stack)
        first.connect().change(1, rules, whole=True)
        with PacedFlow(sender, RATE_PPS) as flow:
            flow.advance(1000)
            first.kill()
            control = start(lab, resources, stack).connect()
            control.change(1, rules, whole=True)
            flow.advance(1000)
        receiver.wait_for_payload(flow.sent[-1])
        assert len(flow.sent) - len(receiver.collected) < RATE_PPS // 2
        wait_until(lambda: sent(control) >= len(receiver.collected) - RATE_PPS // 100)


def test_a_worker_exits_with_its_supervisor(lab: Lab, resources: WorkerResources) -> None:
    """Within a second after the supervisor channel has ended."""
    with lab.relay:
        worker = WorkerProcess(resources)
    with worker:
        worker.connect().ask("hello")
        start = time.monotonic()
        worker.supervisor_channel.close()
        assert worker.process.wait(1.0) == 0
        assert time.monotonic() - start < 1.0


def test_heartbeats_are_sent_twice_a_second(worker: WorkerProcess) -> None:
    """Even after the worker was stopped for a while."""
    worker.supervisor_channel.settimeout(2.0)
    assert [worker.supervisor_channel.recv(8) for _ in range(3)] == [b"P"] * 3
    worker.process.send_signal(signal.SIGSTOP)
    worker.process.send_signal(signal.SIGCONT)
    assert worker.supervisor_channel.recv(8) == b"P"


def test_own_descriptors_are_low_and_no_low_one_is_free(worker: WorkerProcess) -> None:
    """Descriptors received later get numbers of 16 and above."""
    worker.connect().ask("hello")
    numbers = {int(path.name) for path in Path(f"/proc/{worker.process.pid}/fd").iterdir()}
    assert set(range(16)) <= numbers
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    rights = {line.split()[1] for line in status.splitlines() if line.startswith("Cap")}
    assert rights == {"0" * 16}
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        ({"ingress": "auto"}, 64, "unknown variant"),
        ({"number": 3}, 64, "there is no worker 3 of 1"),
        ({"supervisor": 1}, 71, "supervisor"),
        ({"supervisor_channel": 0}, 71, "descriptors"),
        ({"uid": 1}, 64, "uid and gid go together"),
    ],
)
def test_a_failed_start_is_one_error(
    resources: WorkerResources, wrong: Json, code: int, message: str
) -> None:
    """In one line, with a specific exit code."""
    with WorkerProcess(resources, **wrong) as worker:
        assert worker.process.wait(5.0) == code
        assert worker.process.stderr is not None
        text = worker.process.stderr.read()
        assert message in text
        assert text.startswith("worker: ")
        assert text.count("\n") == 1


def test_only_a_page_of_counters_is_accepted(resources: WorkerResources) -> None:
    """Nothing but a page of counters is counted in."""
    page = os.memfd_create("page", os.MFD_ALLOW_SEALING)
    counters, resources.page = resources.page, page
    try:
        os.ftruncate(page, 4096)
        with WorkerProcess(resources) as worker:
            assert worker.process.wait(5.0) == 71
    finally:
        resources.page = counters
        os.close(page)
