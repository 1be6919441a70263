"""Several workers get their sockets on an interface while traffic flows: flows keep their order."""

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Self

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import assert_balanced
from .daemons import serving
from .lab import Lab
from .namespaces import Net
from .relays import relaying
from .traffic import Receiver, Sender

FLOWS = 16
PERIOD_S = 0.005  # of each flow
ROUNDS = 5
ENOUGH = 400  # datagrams after the sockets have come, of all flows together
RULE = "239.1.3.1%in0:5001,name=one to 239.2.3.1%out0:6001"


@pytest.fixture
def lab(_rights: None) -> Iterator[Lab]:
    """A network whose interfaces may be renamed; datagrams come one by one."""
    with Net() as net:
        lab = Lab.build(net)
        lab.set_offload(on=False)
        yield lab


class Flows:
    """Senders that send numbered datagrams in turn until the end."""

    def __init__(self, senders: list[Sender]) -> None:
        """Use these, one for each flow."""
        self._senders = senders
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._ended.wait(PERIOD_S):
            for flow, sender in enumerate(self._senders):
                sender.socket.send(b"%d %d" % (flow, number))
            number += 1


def assert_in_order(receiver: Receiver) -> None:
    """Whatever has come, each flow's numbers rise; all flows have come."""
    numbers = defaultdict(list)
    for datagram in receiver.wait_for(ENOUGH):
        flow, number = map(int, datagram.split())
        numbers[flow].append(number)
    assert len(numbers) == FLOWS
    for flow, seen in numbers.items():
        assert seen == sorted(set(seen)), f"flow {flow}"
    receiver.forget()


@contextlib.contextmanager
def four_workers(lab: Lab, kind: str) -> Iterator[mcr.Relay | mcr.Client]:
    """A relay without rules, in this process or as a daemon."""
    if kind == "library":
        with relaying(lab.relay, ingress="packet", workers=4) as relay:
            yield relay
    else:
        with (
            serving(lab.relay, "--ingress", "packet", "--workers", "4") as daemon,
            daemon.client() as client,
        ):
            yield client


@pytest.mark.parametrize("kind", ["library", "daemon"])
@pytest.mark.parametrize("way", ["rule", "link"])
def test_sockets_that_come_keep_the_order_of_flows(lab: Lab, kind: str, way: str) -> None:
    """The first rule on an interface comes, or the interface comes back, under traffic."""
    with (
        four_workers(lab, kind) as relay,
        lab.receive("239.2.3.1", 6001) as receiver,
        contextlib.ExitStack() as stack,
    ):
        senders = [stack.enter_context(lab.sender("239.1.3.1", 5001)) for _ in range(FLOWS)]
        stack.enter_context(Flows(senders))
        if way == "link":
            lab.relay.ip("link", "set", "in0", "name", "away")
            add(lab, relay)
        for _ in range(ROUNDS):
            if way == "link":
                lab.relay.ip("link", "set", "away", "name", "in0")
                assert_in_order(receiver)
                lab.relay.ip("link", "set", "in0", "name", "away")
                wait_until(lambda: "no interface" in relay.stats().rules[0].state)
            else:
                add(lab, relay)
                assert_in_order(receiver)
                relay.remove_rule("one")
            receiver.forget()
        assert_balanced(relay.stats())


def add(lab: Lab, relay: mcr.Relay | mcr.Client) -> None:
    """Add the rule, in the namespace where a relay of this process looks its interfaces up."""
    with lab.relay:
        relay.add_rule(RULE)
