"""Outputs to host names: several addresses of a name, failing ones, and changed ones."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.deadline import wait_until

from .checks import sent_counts, settle
from .lab import Lab
from .namespaces import Namespace
from .relays import Ingress, relaying
from .test_command import Process, command
from .traffic import PacedFlow, payloads

ETC_NETNS = Path("/etc/netns")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The answers to queries of this process."""
    table: dict[str, list[str]] = {}

    def getaddrinfo(host: str, port: None, family: int, kind: int) -> list[tuple[object, ...]]:
        return [(family, kind, 17, "", (address, 0)) for address in table[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return table


def test_hosts_behind_one_name(
    lab: Lab, ingress: Ingress, gro: bool, names: dict[str, list[str]]
) -> None:
    """All get everything, even beside one that refuses and one that does not exist."""
    names["studio.example"] = ["10.2.0.2", "10.3.0.2", "10.1.0.3", "10.2.0.99"]
    sent = payloads(300)
    with (
        lab.receive("10.2.0.2", 7000) as first,
        lab.receive("10.3.0.2", 7000, "d1") as second,
        lab.receive("239.2.63.1", 6001) as group,
        relaying(
            lab.relay,
            "239.1.63.1%in0:5001 to studio.example:7000 239.2.63.1%out0:6001",
            ingress=ingress,
            hosts="all",
        ) as relay,
        lab.sender("239.1.63.1", 5001) as sender,
    ):
        for start in range(0, len(sent), 20):
            part = sent[start : start + 20]
            (sender.send_super if gro else sender.send)(part)
            group.wait_for(start + len(part))
        for receiver in (first, second, group):
            receiver.expect(sent)
        stats = settle(relay, lambda stats: stats.rules[0].outputs[4].sent == len(sent))
        outputs = {output.address: output for output in stats.rules[0].outputs}
        assert set(outputs) == {*names["studio.example"], "239.2.63.1"}
        assert outputs["10.1.0.3"].refused > 0
        for healthy in ("10.2.0.2", "10.3.0.2", "239.2.63.1"):
            assert (outputs[healthy].sent, outputs[healthy].lost) == (len(sent), 0)


def test_a_name_that_moves_under_traffic(
    lab: Lab, ingress: Ingress, names: dict[str, list[str]]
) -> None:
    """Each datagram goes to the old or the new host; other rules are not affected."""
    names["studio.example"] = ["10.2.0.2"]
    with (
        lab.receive("10.2.0.2", 7000) as old,
        lab.receive("10.3.0.2", 7000, "d1") as new,
        lab.receive("239.2.64.1", 6001) as group,
        relaying(
            lab.relay,
            "239.1.64.1%in0:5001 to studio.example:7000",
            "239.1.64.1%in0:5001 to 239.2.64.1%out0:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.64.1", 5001) as sender,
    ):
        with PacedFlow(sender, 5000) as flow:
            old.wait_for(200)
            names["studio.example"] = ["10.3.0.2"]
            with lab.relay:
                (change,) = relay.resolve_hosts()
            new.wait_for(200)
        assert [str(address) for address in change.after] == ["10.3.0.2"]
        group.expect(flow.sent)
        new.wait_for_payload(flow.sent[-1])
        assert old.drain() + new.drain() == flow.sent
        stats = settle(relay, lambda stats: sent_counts(stats)[1] == len(flow.sent))
        moved, beside = stats.rules
        assert moved.outputs[0].address == "10.3.0.2"
        assert moved.outputs[0].sent == len(new.collected)
        assert beside.matched == len(flow.sent)


@contextmanager
def hosts_file(namespace: Namespace) -> Iterator[Path]:
    """An /etc/hosts for commands run by `ip netns exec`, without a name server."""
    made = not ETC_NETNS.exists()
    directory = ETC_NETNS / namespace.name
    directory.mkdir(parents=True)
    files = {name: directory / name for name in ("hosts", "nsswitch.conf")}
    try:
        files["nsswitch.conf"].write_text("hosts: files\npasswd: files\n")
        files["hosts"].touch()
        yield files["hosts"]
    finally:
        for file in files.values():
            file.unlink()
        directory.rmdir()
        if made:
            ETC_NETNS.rmdir()


def wait_told(relay: Process, text: str) -> None:
    """Wait for a line on the command's standard error."""
    wait_until(lambda: text in relay.read_log(), what=text)


def test_the_command_looks_up_again_on_sighup(lab: Lab, ingress: Ingress) -> None:
    """Without root; changes are reported, and a name that fails keeps its addresses."""
    rule = "239.1.65.1%in0:5001 to studio.example:7000"
    before, after, last = (payloads(50, seed=seed) for seed in range(3))
    with (
        hosts_file(lab.relay) as hosts,
        lab.receive("10.2.0.2", 7000) as old,
        lab.receive("10.3.0.2", 7000, "d1") as new,
        lab.sender("239.1.65.1", 5001) as sender,
    ):
        hosts.write_text("10.2.0.2 studio.example\n")
        with command(lab, rule, "--json", "--ingress", ingress) as relay:
            relay.wait_ready()
            sender.send(before)
            old.expect(before)
            hosts.write_text("10.3.0.2 studio.example\n")
            relay.process.send_signal(signal.SIGHUP)
            wait_told(
                relay, "the host 'studio.example' now resolves to 10.3.0.2 instead of 10.2.0.2"
            )
            sender.send(after)
            new.expect(after)
            hosts.write_text("")
            relay.process.send_signal(signal.SIGHUP)
            wait_told(relay, "warning: the host 'studio.example' does not resolve")
            sender.send(last)
            new.expect(after + last)
            relay.process.send_signal(signal.SIGTERM)
            report = relay.report()
        (output,) = report["rules"][0]["outputs"]
        assert (output["address"], output["sent"]) == ("10.3.0.2", len(after + last))
