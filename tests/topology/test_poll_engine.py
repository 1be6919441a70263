"""Without io_uring, as in containers: the engine `poll` relays the same, and says what it lacks."""

import os
import signal
import subprocess
import sys

import pytest
from tests.support.deadline import wait_until

import mcr

from .bulk import bulk_flow
from .checks import assert_balanced, settle, settle_sent
from .daemons import serving
from .lab import Lab
from .relays import Ingress
from .traffic import payloads
from .without_io_uring import WITHOUT_IO_URING

REFUSED = "io_uring is refused (Operation not permitted (os error 1))"
FIX = "allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile"
V4 = "239.1.77.1%in0:5001,name=four to 239.2.77.1%out0:6001 239.2.77.2%out1:6001,ttl=keep"
V6 = "[ff3e::77:1]%in0:5001,name=six to [ff3e::77:2]%out0:6001"


def test_everything_arrives_and_is_counted(lab: Lab, ingress: Ingress, gro: bool) -> None:
    """Batches, single copies with a TTL of their own, and IPv6; from before to after a change."""
    sent = payloads(3000, (200,))
    with (
        serving(lab.relay, "--ingress", ingress, "--latency", before=WITHOUT_IO_URING) as daemon,
        daemon.client() as client,
        lab.receive("239.2.77.1", 6001) as first,
        lab.receive("239.2.77.2", 6001, "d1") as second,
        lab.receive("ff3e::77:2", 6001) as third,
        lab.sender("239.1.77.1", 5001) as four,
        lab.sender("ff3e::77:1", 5001) as six,
    ):
        daemon.wait_for(f"{REFUSED}: set the sysctl kernel.io_uring_disabled to 0, and in a")
        daemon.wait_for(FIX)
        assert [worker.engine for worker in client.workers()] == ["poll"]
        client.add_rules([V4, V6])
        (four.send_super if gro else four.send)(sent)
        (six.send_super if gro else six.send)(sent)
        first.expect(sent)
        second.expect(sent)
        third.expect(sent)
        stats = settle_sent(client, len(sent), len(sent), len(sent))
        latency = stats.rules[0].latency
        assert latency is not None
        assert latency.samples > 0
        client.remove_rules(["six"])
        client.add_rule(V6.replace("name=six", "name=again"))
        six.send(sent[:100])
        third.expect(sent + sent[:100])
        settle_sent(client, len(sent), len(sent), 100)


def test_what_cannot_be_sent_is_counted(lab: Lab) -> None:
    """Of a host without a receiver, and of one that is not there."""
    rule = "239.1.77.3%in0:5001 to 10.2.0.2%out0:7999 10.2.0.99%out0:7999 239.2.77.3%out0:6001"
    sent = payloads(200)
    with (
        serving(lab.relay, "--ingress", "udp", before=WITHOUT_IO_URING) as daemon,
        daemon.client() as client,
        lab.receive("239.2.77.3", 6001) as receiver,
        lab.sender("239.1.77.3", 5001) as sender,
    ):
        client.add_rule(rule)
        for payload in sent:
            sender.send([payload])
        receiver.expect(sent)
        stats = settle(client, lambda stats: stats.rules[0].matched == len(sent))
        refusing, absent, group = stats.rules[0].outputs
        assert refusing.refused > 0
        assert refusing.sent == group.sent == len(sent)
        assert absent.wanted == len(sent)
        assert absent.sent + sum(absent.dropped.values()) == len(sent)


@pytest.mark.alone
def test_a_killed_worker_is_replaced(lab: Lab, ingress: Ingress) -> None:
    """Its successor takes the sockets over; only what it held is lost, the order stays."""
    lab.set_offload(on=True)
    arguments = ("--ingress", ingress, "--workers", "2")
    with serving(lab.relay, *arguments, before=WITHOUT_IO_URING) as daemon:
        with daemon.client() as client:
            client.add_rule(V4.partition(" 239.2.77.2")[0])
            with bulk_flow(lab, ("239.1.77.1", 5001), ("239.2.77.1", 6001), rate_pps=5000) as flow:
                wait_until(lambda: client.stats().rules[0].matched > 1000)
                before = client.workers()
                for worker in before:
                    assert worker.pid is not None
                    os.kill(worker.pid, signal.SIGKILL)
                wait_until(
                    lambda: all(
                        now.pid not in {None, then.pid} and now.state == "running"
                        for now, then in zip(client.workers(), before, strict=True)
                    ),
                    30,
                )
                matched = client.stats().rules[0].matched
                wait_until(lambda: client.stats().rules[0].matched > matched + 1000)
                found = flow.end()
            assert (found.late, found.own_loss) == (0, 0), found
            assert found.received + found.lost == found.sent, found
            assert found.lost <= 5000, found
            assert_balanced(client.stats())
            assert {worker.engine for worker in client.workers()} == {"poll"}
        assert daemon.end() == 0


def test_the_library_says_so_too() -> None:
    """By a property and a warning of the relay; `mcr doctor` advises what to do."""
    program = (
        "import mcr\n"
        "from mcr.doctor import diagnose\n"
        "with mcr.Relay('239.1.77.4%lo:5001 to 239.2.77.4%lo:6001', ingress='udp') as relay:\n"
        "    print(relay.engine, relay.warnings)\n"
        "print(*(each for each in diagnose() if each.name == 'io_uring'))\n"
    )
    command = [*WITHOUT_IO_URING, sys.executable, "-c", program]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("poll "), said
    assert said.count(REFUSED) == 2, said  # of the relay, and of the doctor
    assert said.count(FIX) == 2, said
    assert "severity='advice'" in said
    with mcr.Relay("239.1.77.4%lo:5001 to 239.2.77.4%lo:6001", ingress="udp") as relay:
        assert relay.engine == "io_uring"
