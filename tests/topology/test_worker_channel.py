"""The channel from control to a worker: any input, and a control that does not read."""

import pytest
from tests.support.deadline import wait_until
from tests.support.worker_process import WorkerClient, WorkerProcess, WorkerRefusal

from .lab import Lab
from .traffic import PacedFlow, payloads
from .workers import OTHER, RULE, resolved, wait_for_sent


def flood(control: WorkerClient) -> None:
    """Send requests without reading answers."""
    for _ in range(1_000_000):
        control.say("hello")


def test_troubles_and_links_are_reported(lab: Lab, worker: WorkerProcess) -> None:
    """A rule that waits and resumes, and the interface that it waits for."""
    control = worker.connect()
    control.change(1, resolved(lab, RULE, OTHER), whole=True)
    with lab.relay.down("out1"):
        news = control.wait_for_event("rules")["rules"]
        assert [rule["parked"] for rule in news] == [["out1 is down"]]
        # How another interface came up may be told only now.
        while (link := control.wait_for_event("link"))["name"] != "out1":
            pass
        assert link["change"] == "down"
        control.socket.close()
        control = worker.connect()
        news = control.wait_for_event("rules")["rules"]
        assert [rule["parked"] for rule in news] == [["out1 is down"]]
    wait_until(lambda: control.wait_for_event("rules")["rules"][0]["parked"] == [None])
    facilities = ("worker", "ingress", "egress", "interfaces")
    assert control.ask("log", levels=dict.fromkeys(facilities, "error")) == {}


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
    """The worker keeps relaying, and serves the next control process."""
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


IMPOSSIBLE: list[tuple[str, str, object, str]] = [
    ("outputs", "ttl", 0, "an output with a TTL of 0"),
    ("outputs", "source_port", 0, "an output with the source port 0"),
    ("outputs", "dscp", 64, "an output with a DSCP above 63"),
    ("outputs", "priority", 7, "an output with a priority above 6"),
    ("outputs", "interface", "", "an output to a group without an interface"),
    ("outputs", "interface", "out/0", "an output with an invalid interface name"),
    ("outputs", "last_port", 6000, "an output with an invalid port range"),
    ("outputs", "source", "fe80::1", "an output with a source address of another family"),
    ("input", "sources", ["239.1.60.9"], "a group as a source"),
    ("input", "everywhere", True, "a group as an address of this host"),
    ("input", "interface", "in/0", "an input with an invalid interface name"),
]


@pytest.mark.parametrize(("part", "member", "value", "fault"), IMPOSSIBLE)
def test_an_impossible_rule_is_refused_by_the_worker(
    lab: Lab, worker: WorkerProcess, part: str, member: str, value: object, fault: str
) -> None:
    """The supervisor kills workers that request such a socket, so no worker does."""
    [rule, other] = resolved(lab, RULE, OTHER)
    control = worker.connect()
    control.change(1, [rule], whole=True)
    spec = other["outputs"][0] if part == "outputs" else other[part]
    spec[member] = value
    with pytest.raises(WorkerRefusal) as refused:
        control.prepare(2, [other])
    assert refused.value.failure["message"] == f"has {fault}"
    assert refused.value.failure["rule"] == other["id"]
    with lab.receive("239.2.60.1", 6001) as receiver, lab.sender("239.1.60.1", 5001) as sender:
        sender.send(payloads(10))
        receiver.expect(payloads(10))
        wait_for_sent(control, 10)


def test_answers_wait_for_their_reader(lab: Lab, worker: WorkerProcess) -> None:
    """Of thousands of requests each gets a whole answer, and traffic continues."""
    control = worker.connect()
    control.change(1, resolved(lab, RULE), whole=True)
    with (
        lab.receive("239.2.60.1", 6001) as receiver,
        lab.sender("239.1.60.1", 5001) as sender,
    ):
        with PacedFlow(sender, 2000) as flow:
            asked = [control.say("hello") for _ in range(3000)]
            flow.advance(100)
            for number in asked:
                answer = control.hear()
                assert (answer["id"], answer["ok"]["revision"]) == (number, 1)
            flow.advance(100)
        receiver.expect(flow.sent)
        wait_for_sent(control, len(flow.sent))


def test_a_control_that_does_not_read_is_disconnected(lab: Lab, worker: WorkerProcess) -> None:
    """At a bound; traffic continues, and the next control process is served."""
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
