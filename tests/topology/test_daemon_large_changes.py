"""Deaths of workers and the shutdown during a change that takes long."""

import signal
import subprocess
import threading
import time

import pytest
from tests.support.deadline import wait_until

import mcr

from .daemons import serving
from .deaths import OutageLimit, kill, stopped
from .lab import Lab
from .namespaces import Namespace
from .relays import Ingress
from .traffic import payloads

pytestmark = pytest.mark.alone

KEPT = "239.1.99.1%in0:5001,name=kept to 239.2.99.1%out0:6001"
NEXT = "239.1.99.2%in0:5001,name=next to 239.2.99.2%out0:6001"
INTERFACES = 30


def add_interfaces(namespace: Namespace) -> list[str]:
    """Create pairs of interfaces; return rules with a group on each."""
    names = [f"v{number}" for number in range(INTERFACES)]
    pairs = zip(names[::2], names[1::2], strict=True)
    commands = [f"link add {one} type veth peer name {other}" for one, other in pairs]
    commands += [f"link set {name} up" for name in names]
    commands += [f"addr add 10.7.{number}.1/24 dev {name}" for number, name in enumerate(names)]
    batch = namespace.command("ip", "-batch", "-")
    subprocess.run(batch, input="\n".join(commands).encode(), check=True)
    return [f"239.1.98.1%{name}:5001 to 239.2.98.1%out0:6001" for name in names]


def outage_ms(client: mcr.Client, killed: int) -> float:
    """The outage of worker 0, once its successor relays."""

    def is_back() -> bool:
        worker = client.workers()[0]
        return worker.state == "running" and worker.pid != killed

    wait_until(is_back)
    death = client.workers()[0].last_death
    assert death is not None
    assert death.outage_ms is not None
    return death.outage_ms


def test_a_change_in_progress_delays_no_restart(lab: Lab, ingress: Ingress) -> None:
    """Worker 1 does not answer; worker 0 is restarted before the change ends."""
    with (
        serving(lab.relay, "--ingress", ingress, "--workers", "2") as daemon,
        daemon.client() as client,
        daemon.client() as other,
        lab.receive("239.2.99.1", 6001) as receiver,
        lab.sender("239.1.99.1", 5001) as sender,
    ):
        client.add_rule(KEPT)
        killed, silent = daemon.workers
        change = threading.Thread(target=other.add_rule, args=[NEXT])
        with stopped(silent):
            change.start()
            limit = OutageLimit(daemon)
            kill(killed)
            assert outage_ms(client, killed) <= limit.end()
            assert change.is_alive()
        change.join()
        wait_until(lambda: {worker.state for worker in client.workers()} == {"running"})
        assert {rule.name for rule in client.rules()} == {"kept", "next"}
        datagrams = payloads(10)
        sender.send(datagrams)
        receiver.expect(datagrams)


def test_closing_many_interfaces_delays_nothing(lab: Lab) -> None:
    """Neither a restarted worker, nor the shutdown."""
    rules = add_interfaces(lab.relay)
    with (
        serving(lab.relay, "--ingress", "packet", "--workers", "2") as daemon,
        daemon.client() as client,
    ):
        client.add_rule(KEPT)
        added = client.add_rules(rules).added
        client.remove_rules([rule.id for rule in added])
        killed = daemon.workers[0]
        limit = OutageLimit(daemon)
        kill(killed)
        assert outage_ms(client, killed) <= limit.end()
        client.add_rules(rules)
        began_s = time.monotonic()
        assert daemon.end(signal.SIGTERM) == 0
        assert time.monotonic() - began_s < 2
