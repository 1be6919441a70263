"""Rules that do not fit their host for a while keep their counters across processes."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import assert_balanced, sent_counts, settle_sent
from .daemons import Daemon, serving
from .deaths import kill
from .lab import Lab
from .relays import Ingress
from .traffic import payloads

SERVICE = {4: "10.98.0.1", 6: "fd98::1"}
GATEWAY = {4: "10.1.0.1", 6: "fd01::1"}
GROUP = "239.1.98.1"
PORT = 7000
OUTPUT = "239.2.98.1%out0:6001"
BATCH = 40
UNFIT = "does not fit this host now: "
WELL = ("joined", "flowing", "silent")


@dataclass(frozen=True, slots=True)
class Case:
    """A rule, and functions that remove what it needs from its host and restore it."""

    rule: str
    address: str
    """Where its datagrams are sent."""
    set_fit: Callable[[bool], None]


@contextlib.contextmanager
def by_address(lab: Lab, family: int) -> Iterator[Case]:
    """The input is an address without an interface, which is removed."""
    address = SERVICE[family]
    written, bits = (address, 32) if family == 4 else (f"[{address}]", 128)

    def set_fit(fits: bool) -> None:
        more = ["nodad"] if fits and family == 6 else []
        verb = "replace" if fits else "del"
        lab.relay.ip("address", verb, f"{address}/{bits}", "dev", "in0", *more)

    version = f"-{family}"
    set_fit(True)
    lab.source.ip(version, "route", "add", address, "via", GATEWAY[family])
    try:
        yield Case(f"{written}:{PORT},name=late to {OUTPUT}", address, set_fit)
    finally:
        lab.source.ip(version, "route", "del", address)
        set_fit(True)
        set_fit(False)


@contextlib.contextmanager
def by_multicast(lab: Lab) -> Iterator[Case]:
    """The input is a group on an interface whose multicast is turned off."""

    def set_fit(fits: bool) -> None:
        lab.relay.ip("link", "set", "in0", "multicast", "on" if fits else "off")

    try:
        yield Case(f"{GROUP}%in0:{PORT},name=late to {OUTPUT}", GROUP, set_fit)
    finally:
        set_fit(True)


def kill_and_wait(daemon: Daemon, client: mcr.Client, victims: str) -> None:
    """Kill processes of a daemon, and wait for their successors."""
    control, workers = daemon.control, daemon.workers
    kill(*([control] if "control" in victims else []), *(workers if "workers" in victims else []))

    def is_whole() -> bool:
        try:
            now = daemon.workers
        except mcr.DaemonError:
            return False
        is_new = "control" not in victims or client.hello().pid != control
        are_new = "workers" not in victims or not set(now) & set(workers)
        return is_new and are_new and client.ping().workers.running == len(workers)

    wait_until(is_whole, 20.0)


@pytest.mark.parametrize("kind", ["address", "multicast"])
def test_counters_stay_while_a_rule_does_not_fit(lab: Lab, ingress: Ingress, kind: str) -> None:
    """Whatever process dies, counters can be read and continue once the rule fits again."""
    family = 6 if ingress == "udp" else 4  # each once: it makes no difference
    with (
        by_address(lab, family) if kind == "address" else by_multicast(lab) as case,
        serving(lab.relay, "--ingress", ingress, "--workers", "2") as daemon,
        daemon.client() as client,
        lab.receive("239.2.98.1", 6001) as receiver,
        lab.sender(case.address, PORT) as sender,
    ):
        client.add_rule(case.rule)
        sent = payloads(4 * BATCH)
        sender.send(sent[:BATCH])
        settle_sent(client, BATCH)
        for round_, victims in enumerate(("control", "workers", "control and workers"), 1):
            case.set_fit(False)
            kill_and_wait(daemon, client, victims)
            if kind == "address":
                client.replace_rules([case.rule])
            stats = client.stats()
            assert sent_counts(stats) == [round_ * BATCH], f"{victims}: {stats.rules}"
            assert_balanced(stats)
            case.set_fit(True)
            wait_until(lambda: state(client).startswith(WELL))
            sender.send(sent[round_ * BATCH : (round_ + 1) * BATCH])
            settle_sent(client, (round_ + 1) * BATCH)
        receiver.expect(sent)
        case.set_fit(False)
        kill_and_wait(daemon, client, "control")
        client.remove_rule("late")
        assert sent_counts(client.stats()) == []
        case.set_fit(True)
        client.add_rule(case.rule)
        assert sent_counts(client.stats()) == [0]


def test_another_start_checks_rules_again(lab: Lab, tmp_path: Path) -> None:
    """A rule that does not fit then waits, also in another control, and counts from 0."""
    sent = payloads(2 * BATCH)
    options = ("--state", str(tmp_path / "rules"))
    with (
        by_multicast(lab) as case,
        lab.receive("239.2.98.1", 6001) as receiver,
        lab.sender(case.address, PORT) as sender,
    ):
        with serving(lab.relay, *options) as daemon, daemon.client() as client:
            client.add_rule(case.rule)
            sender.send(sent[:BATCH])
            settle_sent(client, BATCH)
            assert daemon.end() == 0
        case.set_fit(False)
        with serving(lab.relay, *options) as daemon, daemon.client() as client:
            assert state(client).startswith(UNFIT)
            kill_and_wait(daemon, client, "control")
            assert state(client).startswith(UNFIT)
            case.set_fit(True)
            wait_until(lambda: state(client).startswith(WELL))
            sender.send(sent[BATCH:])
            settle_sent(client, BATCH)
        receiver.expect(sent)


def state(client: mcr.Client) -> str:
    """The state of the rule."""
    (rule,) = client.rules()
    return rule.state
