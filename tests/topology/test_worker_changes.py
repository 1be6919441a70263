"""Changes of a worker's rules: prepared, committed, aborted."""

import socket

import pytest
from tests.support.deadline import wait_until
from tests.support.worker_process import WorkerProcess, WorkerRefusal, WorkerResources

from .lab import Lab
from .traffic import payloads
from .workers import OTHER, RULE, report, resolved, wait_for_sent


def test_a_change_has_two_phases(
    lab: Lab, resources: WorkerResources, worker: WorkerProcess
) -> None:
    """Nothing is relayed before the commit; an abort leaves everything as it was."""
    control = worker.connect()
    hello = control.ask("hello")
    assert hello == {
        "protocol": 4,
        "number": 0,
        "pid": worker.process.pid,
        "ingress": resources.ingress,
        "engine": "io_uring",
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
        with pytest.raises(WorkerRefusal, match="no change is prepared"):
            control.ask("commit")
        sender.send(datagrams)
        receiver.expect(datagrams + datagrams)
        wait_for_sent(control, 60)
    control.change(9, [second], whole=True)
    assert len(report(control)["rules"]) == 1
    assert control.ask("stop") == {}
    assert len(report(control)["rules"]) == 1


def test_a_rule_is_replaced_under_its_id(lab: Lab, worker: WorkerProcess) -> None:
    """Another input, the same output: aborted or committed, its datagrams arrive."""
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
    """One invalid rule refuses all, and is named."""
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


def test_a_disabled_rule_keeps_its_counters(lab: Lab, worker: WorkerProcess) -> None:
    """And its sockets."""
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


def test_a_change_is_aborted_with_its_channel(lab: Lab, worker: WorkerProcess) -> None:
    """Whether the channel is closed or replaced."""
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


def test_a_change_without_a_decision_is_aborted(lab: Lab) -> None:
    """After ten seconds; its sockets are closed, and control is notified."""
    with WorkerResources("udp") as resources:
        with lab.relay:
            worker = WorkerProcess(resources)
        with worker:
            control = worker.connect()
            control.prepare(1, resolved(lab, RULE), whole=True)
            assert "239.1.60.1" in lab.relay.ip("maddress", "show", "dev", "in0")
            assert "no decision arrived" in control.wait_for_event("log", 12.0)["text"]
            assert "239.1.60.1" not in lab.relay.ip("maddress", "show", "dev", "in0")
            with pytest.raises(WorkerRefusal, match="no change is prepared"):
                control.ask("commit")
