"""Changes of a worker's rules: prepared, committed, given up."""

import socket

import pytest
from tests.support.deadline import wait_until
from tests.support.worker_process import WorkerProcess, WorkerRefusal, WorkerResources

from .lab import Lab
from .traffic import payloads
from .workers import OTHER, RULE, report, resolved, wait_for_sent


def test_rules_come_by_two_steps_and_datagrams_flow(
    lab: Lab, resources: WorkerResources, worker: WorkerProcess
) -> None:
    """Nothing flows before a commit, everything after it; an abort leaves all as it was."""
    control = worker.connect()
    hello = control.ask("hello")
    assert hello == {
        "protocol": 1,
        "number": 0,
        "pid": worker.process.pid,
        "ingress": resources.ingress,
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
        with pytest.raises(WorkerRefusal, match="nothing is open"):
            control.ask("commit")
        sender.send(datagrams)
        receiver.expect(datagrams + datagrams)
        wait_for_sent(control, 60)
    control.change(9, [second], whole=True)
    assert len(report(control)["rules"]) == 1
    assert control.ask("stop") == {}
    assert len(report(control)["rules"]) == 1


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


def test_a_change_that_is_refused_changes_nothing(lab: Lab, worker: WorkerProcess) -> None:
    """A wrong rule takes the right ones with it, and is named."""
    control = worker.connect()
    first, second = resolved(lab, RULE, OTHER)
    control.change(1, [first], whole=True)
    wrong = second | {"input": second["input"] | {"last_port": 1}}
    with pytest.raises(WorkerRefusal) as refused:
        control.prepare(2, [wrong], remove=[first["id"]])
    assert refused.value.failure["rule"] == second["id"]
    assert refused.value.failure["kind"] == "rule"
    (astray,) = resolved(lab, "239.1.60.3%in0:5001 to 10.2.0.2:6001,sport=7060")
    with lab.relay:
        taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with taken:
        taken.bind(("", 7060))
        with pytest.raises(WorkerRefusal, match="7060") as refused:
            control.prepare(3, [second, astray])
    assert refused.value.failure["rule"] == astray["id"]
    assert refused.value.failure["kind"] == "interface"
    assert control.ask("hello")["rules"] == [first["id"]]


def test_a_disabled_rule_counts_on(lab: Lab, worker: WorkerProcess) -> None:
    """The same rule, disabled or not: sockets and counters stay."""
    control = worker.connect()
    control.change(1, resolved(lab, RULE), whole=True)
    with lab.sender("239.1.60.1", 5001) as sender:
        sender.send(payloads(10))
        wait_for_sent(control, 10)
        control.change(2, resolved(lab, RULE, enabled=False))
        sender.send(payloads(10))
        wait_until(lambda: report(control)["interfaces"][0]["dropped"]["disabled"] == 10)
        control.change(3, resolved(lab, RULE))
        sender.send(payloads(10))
        wait_for_sent(control, 20)


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
    with WorkerResources("udp") as resources:
        with lab.relay:
            worker = WorkerProcess(resources)
        with worker:
            control = worker.connect()
            control.prepare(1, resolved(lab, RULE), whole=True)
            assert "239.1.60.1" in lab.relay.ip("maddress", "show", "dev", "in0")
            assert "nobody decided" in control.wait_for_event("log", 12.0)["text"]
            assert "239.1.60.1" not in lab.relay.ip("maddress", "show", "dev", "in0")
            with pytest.raises(WorkerRefusal, match="nothing is open"):
                control.ask("commit")
