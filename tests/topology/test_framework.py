"""The framework itself, without mcr: what a relay test concludes rests on these."""

import os
import subprocess
import sys
import threading

import pytest
from tests.support.deadline import wait_until

from .checks import assert_balanced
from .frames import TPID_8021Q, Flow, Injector, udp_frame
from .lab import Lab
from .namespaces import NETNS_DIRECTORY, Net, remove_leftovers
from .traffic import PacedFlow, Receiver, Sender, payloads


def test_a_namespace_is_entered_by_the_calling_thread_only(lab: Lab) -> None:
    """Only the thread that enters is moved, and it returns to where it was."""

    def where() -> str:
        return os.readlink("/proc/thread-self/ns/net")

    home = where()
    elsewhere: list[str] = []
    with lab.relay:
        inside = where()
        other = threading.Thread(target=lambda: elsewhere.append(where()))
        with lab.source:
            assert where() not in (home, inside)
        assert where() == inside
    assert where() == home != inside
    other.start()
    other.join()
    assert elsewhere == [home]


@pytest.mark.parametrize("group", ["239.9.9.1", "ff15::9:1"])
def test_datagrams_arrive_byte_for_byte_in_order(lab: Lab, gro: bool, group: str) -> None:
    """Plain sockets over a link, single or as super-frames, empty ones included."""
    sizes = (1400,) if gro else (1400, 0, 7, 3000)
    sent = payloads(300, sizes)
    with (
        Receiver(lab.relay, "in0", group, 5001) as receiver,
        lab.sender(group, 5001) as sender,
    ):
        (sender.send_super if gro else sender.send)(sent)
        receiver.expect(sent)


def test_injected_frames_reach_a_socket_unless_tagged(lab: Lab) -> None:
    """A hand-built frame is a valid datagram; a tagged one is not for the untagged interface."""
    flow = Flow("10.1.0.2", "239.9.9.2", 5001)
    with (
        Receiver(lab.relay, "in0", flow.group, 5001) as receiver,
        Injector(lab.source, "s0") as wire,
    ):
        wire.send(
            udp_frame(flow, b"tagged", tags=((TPID_8021Q, 7),)),
            udp_frame(flow, b"bad", checksum=1),
            udp_frame(flow, b"none", checksum=0),
            udp_frame(flow, b"good"),
        )
        receiver.expect([b"none", b"good"])


def test_a_shaped_link_counts_its_drops(lab: Lab) -> None:
    """What tbf drops is in its counter."""
    sent = payloads(500)
    tbf = ("tbf", "rate", "50mbit", "burst", "5000", "limit", "20000")
    with (
        lab.relay.shaped("out0", *tbf),
        lab.receive("239.9.9.3", 5001) as receiver,
    ):
        with Sender(lab.relay, "out0", "239.9.9.3", 5001) as sender:
            sender.send(sent)
        wait_until(lambda: lab.relay.qdisc("out0")["backlog"] == 0)
        lost = lab.relay.qdisc("out0")["drops"]
        assert lost > 0
        assert len(receiver.drain()) + lost == len(sent)


def test_a_paced_flow_keeps_its_rate(lab: Lab) -> None:
    """The flow holds the mean rate that it was asked for and records what it sent."""
    with (
        Receiver(lab.relay, "in0", "239.9.9.4", 5001) as receiver,
        lab.sender("239.9.9.4", 5001) as sender,
    ):
        with PacedFlow(sender, 8000) as flow:
            flow.advance(1000)
        receiver.expect(flow.sent)
        assert flow.achieved_pps() > 5000


def test_a_receiver_reports_what_is_missing(lab: Lab) -> None:
    """The independent receiver fails on a deadline, on a difference and on too many."""
    with (
        Receiver(lab.relay, "in0", "239.9.9.5", 5001) as receiver,
        lab.sender("239.9.9.5", 5001) as sender,
    ):
        sender.send([b"one", b"two"])
        with pytest.raises(AssertionError, match="2 of 3 datagrams"):
            receiver.wait_for(3, seconds=0.05)
        with pytest.raises(AssertionError, match="datagram 1 of 2 differs"):
            receiver.expect([b"one", b"TWO"])
        with pytest.raises(AssertionError, match="got 2, expected 1"):
            receiver.expect([b"one"])


def test_the_balances_are_really_asserted() -> None:
    """A number that does not add up fails, on either side."""
    interface = {"received": 3, "matched": 2, "dropped": {"no_rule": 1}}
    output = {"wanted": 4, "sent": 2, "pending": 1, "dropped": {"send_error": 1}}
    output["errors"] = {"EIO": 1}
    good = {"interfaces": [interface], "rules": [{"outputs": [output]}]}
    assert_balanced(good)
    for wrong in (
        {"interfaces": [interface | {"received": 4}], "rules": []},
        {"interfaces": [], "rules": [{"outputs": [output | {"wanted": 5}]}]},
        {"interfaces": [], "rules": [{"outputs": [output | {"errors": {}}]}]},
    ):
        with pytest.raises(AssertionError):
            assert_balanced(wrong)


def test_namespaces_of_a_dead_process_are_removed() -> None:
    """What a killed test process left is removed by the next one."""
    script = (
        "import os, signal; from topology.namespaces import Net; "
        "print(Net().namespace().name, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    tests = os.path.dirname(os.path.dirname(__file__))
    died = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tests
    )
    left = NETNS_DIRECTORY / died.stdout.strip()
    assert left.exists()
    remove_leftovers()
    assert not left.exists()


def test_a_network_removes_itself(lab: Lab) -> None:
    """Nothing stays behind a closed network, and other networks are not touched."""
    with Net() as net:
        namespace = net.namespace()
        assert (NETNS_DIRECTORY / namespace.name).exists()
    assert not (NETNS_DIRECTORY / namespace.name).exists()
    assert (NETNS_DIRECTORY / lab.relay.name).exists()
