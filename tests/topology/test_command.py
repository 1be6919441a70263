"""`mcr relay` as a process inside a namespace: ready line, report, rights, signals."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mcr.cli.view import INTERVAL_S

from .checks import DEADLINE_S, PROCESS_S, assert_balanced
from .lab import Lab
from .relays import Ingress
from .traffic import payloads

MCR = str(Path(sys.executable).parent / "mcr")
RULE = "239.1.80.1%in0:5001 to 239.2.80.1%out0:6001 239.2.80.2%out1:6001"
NOBODY = 65534
NO_SUCH_RIGHTS = 0


class Process:
    """A running `mcr relay`, its output and its exit."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Follow a started process."""
        self.process = process
        self.log = ""

    def wait_ready(self) -> None:
        """Wait for the line that says that the rules are live."""
        self.wait_for("\nready", PROCESS_S)

    def wait_for(self, text: str, within_s: float = DEADLINE_S) -> None:
        """Wait until standard error contains this text."""
        assert self.process.stderr is not None
        descriptor = self.process.stderr.fileno()
        deadline = time.monotonic() + within_s
        while text not in "\n" + self.log:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([descriptor], [], [], max(left, 0))
            assert readable, f"no {text!r}: {self.log}"
            more = os.read(descriptor, 65536).decode()
            assert more, f"ended before {text!r}: {self.log}"
            self.log += more

    def read_log(self) -> str:
        """The content of standard error so far."""
        assert self.process.stderr is not None
        descriptor = self.process.stderr.fileno()
        while select.select([descriptor], [], [], 0)[0] and (text := os.read(descriptor, 65536)):
            self.log += text.decode()
        return self.log

    def report(self) -> dict[str, Any]:
        """The final report, after the process has exited with 0."""
        out, log = self.process.communicate(timeout=PROCESS_S)
        assert self.process.returncode == 0, self.log + log
        (line,) = out.strip().splitlines()
        numbers: dict[str, Any] = json.loads(line)
        return numbers

    def threads(self) -> list[dict[str, str]]:
        """The status of every thread, from /proc/PID/task/*/status."""
        return [
            dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)
            for path in Path(f"/proc/{self.process.pid}/task").glob("*/status")
        ]


@contextmanager
def command(lab: Lab, *arguments: str, before: tuple[str, ...] = ()) -> Iterator[Process]:
    """Run `mcr relay` inside the relay namespace; it is killed if the test fails."""
    process = subprocess.Popen(
        lab.relay.command(*before, MCR, "relay", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Process(process)
    finally:
        process.kill()
        process.communicate()


def check_report(report: dict[str, Any], count: int, ingress: Ingress) -> None:
    """The shape of the JSON, its balances, and the numbers of one rule with two outputs."""
    assert_balanced(report)
    (interface,), (rule,) = report["interfaces"], report["rules"]
    assert interface["name"] == "in0"
    assert interface["ingress"] == ingress
    assert interface["received"] == interface["matched"] == count
    assert interface["kernel_dropped_frames"] == 0
    assert rule["rule"] == RULE
    assert {"id", "name", "state", "matched_bytes"} <= rule.keys()
    assert rule["matched"] == count
    for output in rule["outputs"]:
        assert output["wanted"] == output["sent"] == count
        assert output["sent_bytes"] == 1400 * count
        assert output["pending"] == 0
    assert len(rule["outputs"]) == 2


@pytest.mark.parametrize("end", ["duration", signal.SIGTERM, signal.SIGINT])
def test_relay_command(lab: Lab, ingress: Ingress, end: str | signal.Signals) -> None:
    """It reports that it is ready, relays, ends by time or signal, and prints one JSON object."""
    sent = payloads(300)
    limit = ["--duration", "1.5"] if end == "duration" else []
    with (
        lab.receive("239.2.80.1", 6001) as first,
        lab.receive("239.2.80.2", 6001, "d1") as second,
        lab.sender("239.1.80.1", 5001) as sender,
        command(lab, RULE, "--ingress", ingress, "--json", *limit) as relay,
    ):
        relay.wait_ready()
        sender.send(sent)
        first.expect(sent)
        second.expect(sent)
        if isinstance(end, signal.Signals):
            relay.process.send_signal(end)
        check_report(relay.report(), len(sent), ingress)


def test_a_stopped_relay_continues(lab: Lab) -> None:
    """Ctrl-Z and `fg`, even after longer than one wait for a signal."""
    sent = payloads(100)
    with (
        lab.receive("239.2.80.1", 6001) as receiver,
        lab.sender("239.1.80.1", 5001) as sender,
        command(lab, RULE, "--json") as relay,
    ):
        relay.wait_ready()
        for number in (signal.SIGSTOP, signal.SIGCONT):
            relay.process.send_signal(number)
            with pytest.raises(subprocess.TimeoutExpired):
                relay.process.wait(INTERVAL_S + 0.1)
        assert "looked up" not in relay.read_log()
        sender.send(sent)
        receiver.expect(sent)
        relay.process.send_signal(signal.SIGTERM)
        check_report(relay.report(), len(sent), "packet")


def test_rule_without_quotes(lab: Lab) -> None:
    """A rule may be several arguments: the word `to` needs no quoting."""
    with command(lab, *RULE.split(), "--json", "--duration", "0.2") as relay:
        check_report(relay.report(), 0, "packet")


def test_root_becomes_nobody_before_the_first_frame(lab: Lab, ingress: Ingress) -> None:
    """Once it is ready no thread has root's identity or any capability."""
    with command(lab, RULE, "--ingress", ingress, "--json") as relay:
        relay.wait_ready()
        threads = relay.threads()
        assert threads
        for status in threads:
            assert set(status["Uid"].split()) == {str(NOBODY)}
            assert str(0) not in status["Gid"].split()
            for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"):
                assert int(status[kind], 16) == NO_SUCH_RIGHTS, kind
            assert status["NoNewPrivs"] == "1"
        relay.process.send_signal(signal.SIGTERM)
        relay.report()


NO_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def test_without_capabilities(lab: Lab) -> None:
    """Without any right `auto` relays by the udp ingress, and says so."""
    sent = payloads(100)
    with (
        lab.receive("239.2.80.1", 6001) as receiver,
        lab.sender("239.1.80.1", 5001) as sender,
        command(lab, RULE, "--json", "--user", "root", before=NO_CAPABILITIES) as relay,
    ):
        relay.wait_ready()
        sender.send(sent)
        receiver.expect(sent)
        relay.process.send_signal(signal.SIGTERM)
        check_report(relay.report(), len(sent), "udp")


def test_packet_ingress_without_capabilities(lab: Lab) -> None:
    """The error names the missing capability, and the alternative."""
    arguments = (RULE, "--ingress", "packet", "--user", "root")
    with command(lab, *arguments, before=NO_CAPABILITIES) as relay:
        _, log = relay.process.communicate(timeout=PROCESS_S)
        assert relay.process.returncode == 1
        assert "CAP_NET_RAW" in log
        assert "--ingress udp" in log


def test_senders_are_kept_after_dropping_root(lab: Lab) -> None:
    """Sockets opened as root keep addresses and ports after rights are given up."""
    sent = payloads(100)
    options = "ttl=keep,source=keep"
    rule = f"239.1.80.1%in0:5001 to 239.2.80.1%out0:6001,{options}"
    with (
        lab.receive("239.2.80.1", 6001) as udp,
        lab.receive("239.2.80.2", 6001, "d1") as raw,
        lab.sender("239.1.80.1", 5001) as sender,
        command(lab, f"{rule} 239.2.80.2%out1:6001,{options},sport=keep", "--json") as relay,
    ):
        relay.wait_ready()
        assert "(ttl keep, keep)" in relay.log
        assert {task["Uid"].split()[0] for task in relay.threads()} == {str(NOBODY)}
        sender.send(sent)
        udp.expect(sent)
        raw.expect(sent)
        address, port = sender.socket.getsockname()
        assert {source for source, _ in udp.sources} == {address}
        assert set(raw.sources) == {(address, port)}
        relay.process.send_signal(signal.SIGTERM)
        assert_balanced(relay.report())


@pytest.mark.parametrize(
    ("option", "capability"),
    [("source=keep", "CAP_NET_ADMIN or CAP_NET_RAW"), ("sport=keep", "CAP_NET_RAW")],
)
def test_keeping_the_sender_without_capabilities(lab: Lab, option: str, capability: str) -> None:
    """The error names the missing capability, and the option that needs it."""
    arguments = (f"{RULE},{option}", "--user", "root")
    with command(lab, *arguments, before=NO_CAPABILITIES) as relay:
        _, log = relay.process.communicate(timeout=PROCESS_S)
        assert relay.process.returncode == 1
        assert f"{capability} is missing" in log
        assert option in log


def test_refused_rule_leaves_nothing(lab: Lab) -> None:
    """A group without an interface is refused with the candidates and code 2."""
    with command(lab, RULE.replace("%in0", ""), "--json") as relay:
        out, log = relay.process.communicate(timeout=PROCESS_S)
        assert relay.process.returncode == 2
        assert "multicast needs one; write 239.1.80.1%INTERFACE" in log
        assert out == ""


def test_rings_of_other_processes_do_not_count(lab: Lab) -> None:
    """The kernel charges rings to their user, except those created by root."""
    with command(lab, RULE, before=("prlimit", "--memlock=65536")) as relay:
        relay.wait_ready()
