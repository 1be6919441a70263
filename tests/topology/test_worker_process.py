"""A worker process under a supervisor and a control process that the tests play."""

import contextlib
import os
import re
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.worker_process import Control, Json, Kept, Refused, WorkerProcess, specs

from .checks import assert_balanced, wait_until
from .lab import Lab
from .traffic import PacedFlow, payloads

RULE = "239.1.60.1%in0:5001,name=one to 239.2.60.1%out0:6001"
RATE_PPS = 5000
OTHER = "239.1.60.2%in0:5001,name=two to 239.2.60.2%out1:6001"


@pytest.fixture(params=["packet", "udp"])
def kept(request: pytest.FixtureRequest) -> Iterator[Kept]:
    """What outlives a worker, for either ingress."""
    with Kept(request.param) as kept:
        yield kept


@pytest.fixture
def worker(lab: Lab, kept: Kept) -> Iterator[WorkerProcess]:
    """A worker of the relay's namespace, that must be alive in the end."""
    with lab.relay:
        worker = WorkerProcess(kept)
    with worker:
        yield worker
        assert worker.process.poll() is None


def resolved(lab: Lab, *rules: str, paused: bool = False) -> list[Json]:
    """Rules as they are in the relay's namespace."""
    with lab.relay:
        return specs(*rules, paused=paused)


def report(control: Control) -> Json:
    """The counters, which balance."""
    counters: Json = {"rules": []} | control.ask("report")
    assert_balanced(counters)
    return counters


def sent(control: Control, rule: int = 0) -> int:
    """How many copies the rule's first output sent."""
    count: int = report(control)["rules"][rule]["outputs"][0]["sent"]
    return count


def wait_for_sent(control: Control, count: int) -> None:
    """Wait until the first rule's first output has sent so many copies."""
    wait_until(lambda: sent(control) == count)


def start(lab: Lab, kept: Kept, stack: contextlib.ExitStack) -> WorkerProcess:
    """A worker that ends with the stack."""
    with lab.relay:
        return stack.enter_context(WorkerProcess(kept))


def flood(control: Control) -> None:
    """Ask and ask, and never read."""
    for _ in range(1_000_000):
        control.say("hello")


def test_rules_come_by_two_steps_and_datagrams_flow(
    lab: Lab, kept: Kept, worker: WorkerProcess
) -> None:
    """Nothing flows before a commit, everything after it; an abort leaves all as it was."""
    control = worker.connect()
    hello = control.ask("hello")
    assert hello == {
        "protocol": 1,
        "number": 0,
        "pid": worker.process.pid,
        "ingress": kept.ingress,
        "revision": 0,
        "rules": [],
    }
    first, second = resolved(lab, RULE, OTHER)
    with lab.receive("239.2.60.1", 6001) as receiver, lab.sender("239.1.60.1", 5001) as sender:
        control.prepare(7, [first], whole=True)
        assert report(control)["rules"] == []
        assert control.ask("hello")["revision"] == 0
        assert control.ask("commit") == {"revision": 7}
        datagrams = payloads(30)
        sender.send(datagrams)
        receiver.expect(datagrams)
        wait_for_sent(control, 30)
        control.prepare(8, [second], remove=[first["id"]])
        assert control.ask("abort") == {}
        assert control.ask("abort") == {}
        assert control.ask("hello")["rules"] == [first["id"]]
        with pytest.raises(Refused, match="nothing is open"):
            control.ask("commit")
        sender.send(datagrams)
        receiver.expect(datagrams + datagrams)
        wait_for_sent(control, 60)
    control.change(9, [second], whole=True)
    assert [rule["id"] for rule in report(control)["rules"]] == [second["id"]]
    assert control.ask("stop") == {}
    assert report(control)["engine_error"] is None


def test_a_rule_is_replaced_under_its_id(lab: Lab, worker: WorkerProcess) -> None:
    """Another input, the same output: given up or made, its datagrams arrive."""
    control = worker.connect()
    first, second = resolved(lab, RULE, OTHER)
    replacing = first | {"input": second["input"]}
    with (
        lab.receive("239.2.60.1", 6001) as receiver,
        lab.sender("239.1.60.1", 5001) as sender,
        lab.sender("239.1.60.2", 5001) as other,
    ):
        control.change(1, [first], whole=True)
        control.prepare(2, [replacing])
        assert control.ask("abort") == {}
        datagrams = payloads(20)
        sender.send(datagrams)
        receiver.expect(datagrams)
        control.change(2, [replacing])
        sender.send(datagrams)
        other.send(datagrams)
        receiver.expect(datagrams * 2)
        wait_for_sent(control, 20)


def test_one_that_was_root_relays_as_another(lab: Lab, kept: Kept) -> None:
    """With the user and the group that it is given, and no other."""
    # A user's processes share the limit of locked memory, so it is none that has others.
    user = 60_000 + os.getpid() % 5000
    with contextlib.ExitStack() as stack:
        with lab.relay:
            worker = stack.enter_context(WorkerProcess(kept, uid=user, gid=user))
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
    """For want of memory: control is told, and the exit code says it."""
    with Kept("udp") as kept, contextlib.ExitStack() as stack:
        worker = start(lab, kept, stack)
        control = worker.connect()
        control.ask("hello")
        pid = worker.process.pid
        (size,) = re.findall(r"VmSize:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        limit = (int(size) + 512) << 10
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
        control.prepare(1, resolved(lab, RULE), whole=True)
        with pytest.raises(Refused) as refused:
            control.ask("commit")
        assert refused.value.failure["kind"] == "engine"
        assert control.wait_for_event("engine")["error"]
        assert worker.process.wait(5.0) == 70


def test_a_change_that_is_refused_changes_nothing(lab: Lab, worker: WorkerProcess) -> None:
    """A wrong rule takes the right ones with it, and is named."""
    control = worker.connect()
    first, second = resolved(lab, RULE, OTHER)
    control.change(1, [first], whole=True)
    wrong = second | {"input": second["input"] | {"last_port": 1}}
    with pytest.raises(Refused) as refused:
        control.prepare(2, [wrong], remove=[first["id"]])
    assert refused.value.failure["rule"] == second["id"]
    assert refused.value.failure["kind"] == "rule"
    (astray,) = resolved(lab, "239.1.60.3%in0:5001 to 10.2.0.2:6001,sport=7060")
    with lab.relay:
        taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with taken:
        taken.bind(("", 7060))
        with pytest.raises(Refused, match="7060") as refused:
            control.prepare(3, [second, astray])
    assert refused.value.failure["rule"] == astray["id"]
    assert refused.value.failure["kind"] == "interface"
    assert control.ask("hello")["rules"] == [first["id"]]


def test_a_paused_rule_counts_on(lab: Lab, worker: WorkerProcess) -> None:
    """The same rule, paused or not: sockets and counters stay."""
    control = worker.connect()
    control.change(1, resolved(lab, RULE), whole=True)
    with lab.sender("239.1.60.1", 5001) as sender:
        sender.send(payloads(10))
        wait_for_sent(control, 10)
        control.change(2, resolved(lab, RULE, paused=True))
        sender.send(payloads(10))
        wait_until(lambda: report(control)["interfaces"][0]["dropped"]["paused"] == 10)
        assert report(control)["rules"][0]["paused"] is True
        control.change(3, resolved(lab, RULE))
        sender.send(payloads(10))
        wait_for_sent(control, 20)


def test_counters_go_on_after_a_kill(lab: Lab, kept: Kept) -> None:
    """A successor on the same page counts on, and forgets a rule that does not come again."""
    rules = resolved(lab, RULE, OTHER)
    with lab.receive("239.2.60.1", 6001) as receiver, lab.sender("239.1.60.1", 5001) as sender:
        for life in range(3):
            with lab.relay:
                worker = WorkerProcess(kept)
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
        worker = WorkerProcess(kept)
    with worker:
        control = worker.connect()
        control.change(1, rules[1:], whole=True)
        control.change(2, rules)
        assert sorted(rule["matched"] for rule in report(control)["rules"]) == [0, 0]


def test_a_kill_under_load_costs_a_moment(lab: Lab, kept: Kept) -> None:
    """What comes while nobody is there waits in the sockets; the copies on their way are lost."""
    rules = resolved(lab, RULE)
    with (
        lab.receive("239.2.60.1", 6001) as receiver,
        lab.sender("239.1.60.1", 5001) as sender,
        contextlib.ExitStack() as stack,
    ):
        first = start(lab, kept, stack)
        first.connect().change(1, rules, whole=True)
        with PacedFlow(sender, RATE_PPS) as flow:
            flow.advance(1000)
            first.kill()
            control = start(lab, kept, stack).connect()
            control.change(1, rules, whole=True)
            flow.advance(1000)
        receiver.wait_for_payload(flow.sent[-1])
        assert len(flow.sent) - len(receiver.collected) < RATE_PPS // 2
        wait_until(lambda: sent(control) >= len(receiver.collected) - RATE_PPS // 100)


def test_a_channel_that_ends_takes_its_change_with_it(lab: Lab, worker: WorkerProcess) -> None:
    """A prepared change is given up with its channel, whether it ends or another one comes."""
    (first,) = resolved(lab, RULE)
    control = worker.connect()
    control.prepare(1, [first], whole=True)
    successor = worker.connect()
    assert successor.ask("hello")["rules"] == []
    assert control.is_closed()
    successor.prepare(1, [first], whole=True)
    successor.socket.close()
    third = worker.connect()
    assert third.ask("hello")["rules"] == []
    third.change(1, [first], whole=True)


def test_a_change_that_nobody_decides_is_given_up(lab: Lab) -> None:
    """After ten seconds; what was opened for it is closed, and it is told."""
    with Kept("udp") as kept:
        with lab.relay:
            worker = WorkerProcess(kept)
        with worker:
            control = worker.connect()
            control.prepare(1, resolved(lab, RULE), whole=True)
            assert "239.1.60.1" in lab.relay.ip("maddress", "show", "dev", "in0")
            assert "nobody decided" in control.wait_for_event("log", 12.0)["text"]
            assert "239.1.60.1" not in lab.relay.ip("maddress", "show", "dev", "in0")
            with pytest.raises(Refused, match="nothing is open"):
                control.ask("commit")


def test_troubles_and_links_are_told(lab: Lab, worker: WorkerProcess) -> None:
    """A rule that waits, and that goes on; the interface that it waits for."""
    control = worker.connect()
    control.change(1, resolved(lab, RULE, OTHER), whole=True)
    with lab.relay.down("out1"):
        news = control.wait_for_event("rules")["rules"]
        assert [rule["parked"] for rule in news] == [["out1 is down"]]
        link = control.wait_for_event("link")
        assert (link["name"], link["change"]) == ("out1", "down")
        control.socket.close()
        control = worker.connect()
        news = control.wait_for_event("rules")["rules"]
        assert [rule["parked"] for rule in news] == [["out1 is down"]]
    wait_until(lambda: control.wait_for_event("rules")["rules"][0]["parked"] == [None])
    assert control.ask("log", level="error") == {}


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xff\xff\xff",
        b"\x03\x00\x00\x00{{{",
        b"\x02\x00\x00\x00{}",
        b"\x16\x00\x00\x00" + b'{"id":1,"do":"format"}',
        b"\x04\x00\x00\x00[[[[",
    ],
)
def test_garbage_ends_the_channel_and_not_the_flow(
    lab: Lab, worker: WorkerProcess, garbage: bytes
) -> None:
    """The worker goes on relaying, and serves the next control process."""
    control = worker.connect()
    control.change(1, resolved(lab, RULE), whole=True)
    with lab.receive("239.2.60.1", 6001) as receiver, lab.sender("239.1.60.1", 5001) as sender:
        control.socket.sendall(garbage)
        assert control.is_closed()
        sender.send(payloads(10))
        receiver.expect(payloads(10))
        control = worker.connect()
        assert "closed" in control.wait_for_event("log")["text"]
        wait_for_sent(control, 10)


def test_reports_wait_for_their_reader(lab: Lab, worker: WorkerProcess) -> None:
    """Hundreds are asked for before the first is read; each is whole, and traffic goes on."""
    control = worker.connect()
    control.change(1, resolved(lab, RULE), whole=True)
    with (
        lab.receive("239.2.60.1", 6001) as receiver,
        lab.sender("239.1.60.1", 5001) as sender,
    ):
        with PacedFlow(sender, 2000) as flow:
            asked = [control.say("report") for _ in range(300)]
            flow.advance(100)
            for number in asked:
                pieces = [control.hear() for _ in range(3)]
                assert [piece["id"] for piece in pieces] == [number] * 3
                assert pieces[2]["ok"] == {"engine_error": None}
            flow.advance(100)
        receiver.expect(flow.sent)
        wait_for_sent(control, len(flow.sent))


def test_a_control_that_does_not_read_is_cut_off(lab: Lab, worker: WorkerProcess) -> None:
    """What waits for it has a bound; traffic goes on, and so does the next control process."""
    control = worker.connect()
    control.change(1, resolved(lab, RULE), whole=True)
    with (
        lab.receive("239.2.60.1", 6001) as receiver,
        lab.sender("239.1.60.1", 5001) as sender,
    ):
        with PacedFlow(sender, 2000) as flow:
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                flood(control)
            flow.advance(100)
            assert worker.connect().ask("hello")["revision"] == 1
        receiver.expect(flow.sent)


def test_the_supervisors_end_is_the_workers(lab: Lab, kept: Kept) -> None:
    """The end of the leash ends the process within a second."""
    with lab.relay:
        worker = WorkerProcess(kept)
    with worker:
        worker.connect().ask("hello")
        start = time.monotonic()
        worker.leash.close()
        assert worker.process.wait(1.0) == 0
        assert time.monotonic() - start < 1.0


def test_a_sign_of_life_comes_twice_a_second(worker: WorkerProcess) -> None:
    """Also from a worker that was stopped for a while."""
    worker.leash.settimeout(2.0)
    assert [worker.leash.recv(8) for _ in range(3)] == [b"P"] * 3
    worker.process.send_signal(signal.SIGSTOP)
    worker.process.send_signal(signal.SIGCONT)
    assert worker.leash.recv(8) == b"P"


def test_own_descriptors_are_low_and_no_low_one_is_free(worker: WorkerProcess) -> None:
    """What is handed in later gets a number of 16 or more."""
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
        ({"leash": 0}, 71, "descriptors"),
        ({"uid": 1}, 64, "uid and gid go together"),
    ],
)
def test_what_cannot_start_says_why(kept: Kept, wrong: Json, code: int, message: str) -> None:
    """In one line, with a code of its own."""
    with WorkerProcess(kept, **wrong) as worker:
        assert worker.process.wait(5.0) == code
        assert worker.process.stderr is not None
        text = worker.process.stderr.read()
        assert message in text
        assert text.startswith("worker: ")
        assert text.count("\n") == 1


def test_a_page_that_is_none_is_refused(kept: Kept) -> None:
    """Nothing but a page of counters is counted in."""
    page = os.memfd_create("page", os.MFD_ALLOW_SEALING)
    counters, kept.page = kept.page, page
    try:
        os.ftruncate(page, 4096)
        with WorkerProcess(kept) as worker:
            assert worker.process.wait(5.0) == 71
    finally:
        kept.page = counters
        os.close(page)
