"""Exceptions of signal handlers, as of Ctrl-C, at any point of a change: a relay stays whole.

The real engine on loopback, without rights; each datagram is sent to a group of its own.
"""

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import mcr
from mcr.relay.active_rules import ActiveRules

GROUPS = [f"239.79.7.{number}" for number in range(1, 31)]
POINTS = 40
"""At so many moments of a change it is interrupted."""
Change = Callable[[mcr.Relay], None]


class Interrupted(Exception):
    """Raised by the signal handler."""


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    """A receiver of all copies."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.settimeout(10)
        yield bound


@pytest.fixture
def rules(receiver: socket.socket) -> list[mcr.Rule]:
    """One rule for each group."""
    to = receiver.getsockname()[1]
    return [mcr.Rule.parse(f"{group}%lo:5017 to 127.0.0.1:{to}") for group in GROUPS]


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """A signal handler of the timer that raises."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.signal(signal.SIGALRM, before)


def is_interrupted(after_s: float, work: Callable[[], object]) -> bool:
    """Run a function and interrupt it once after this time, unless it has returned before."""
    gc.disable()  # an exception in another library's callback of the collector would be lost
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, after_s)
            work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupted:
        return True
    finally:
        gc.enable()
    return False


def moments(took_s: float) -> Iterable[float]:
    """Times within a change of this duration, more of them early: it may be faster next time."""
    first_s = 20e-6
    return (first_s * (took_s / first_s) ** (point / POINTS) for point in range(POINTS))


def time_of(change: Callable[[], object]) -> float:
    """The duration of a call, in seconds."""
    began_s = time.monotonic()
    change()
    return time.monotonic() - began_s


def send(groups: Iterable[str]) -> None:
    """Send one datagram to each group."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        for group in groups:
            sender.sendto(group.encode(), (group, 5017))


def assert_relays_what_it_lists(relay: mcr.Relay, receiver: socket.socket) -> None:
    """Each listed and enabled rule relays once, others do not; counters agree."""
    before = {rule.id: rule for rule in relay.stats().rules}
    assert list(before) == [rule.id for rule in relay.rules]
    enabled = {rule.id for rule in before.values() if rule.state != "disabled"}
    wanted = sorted(str(rule.input.group) for rule in relay.rules if rule.id in enabled)
    send(GROUPS)
    assert sorted(receiver.recv(99).decode() for _ in wanted) == wanted
    receiver.settimeout(0.02)
    with suppress(TimeoutError):
        more = receiver.recv(99)
        raise AssertionError(f"one more copy, of {more!r}")
    receiver.settimeout(10)
    for rule in relay.stats().rules:
        assert rule.matched - before[rule.id].matched == (rule.id in enabled)


def turned(enabled: bool) -> Change:
    """Enable or disable every rule."""

    def change(relay: mcr.Relay) -> None:
        for rule in relay.rules:
            (relay.enable_rule if enabled else relay.disable_rule)(rule)

    return change


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["add", "remove", "replace", "disable", "enable"])
def test_an_interrupted_change_is_made_or_not(
    kind: str, rules: list[mcr.Rule], receiver: socket.socket
) -> None:
    """The relay relays exactly the rules that it lists, and can be changed again."""
    ways: dict[str, tuple[list[mcr.Rule], Change]] = {
        "add": ([], lambda relay: relay.replace_rules(rules)),
        "remove": (rules, lambda relay: relay.replace_rules([])),
        "replace": (rules[:20], lambda relay: relay.replace_rules(rules[:9:-1])),
        "disable": (rules[:9], turned(enabled=False)),
        "enable": (rules[:9], turned(enabled=True)),
    }
    begin, change = ways[kind]
    interruptions = 0
    with mcr.Relay(ingress="udp") as relay:

        def start_over() -> None:
            relay.replace_rules(begin)
            turned(enabled=kind != "enable")(relay)

        start_over()
        took_s = time_of(lambda: change(relay))
        for moment in moments(took_s):
            start_over()
            interruptions += is_interrupted(moment, lambda: change(relay))
            assert_relays_what_it_lists(relay, receiver)
    assert interruptions > POINTS // 4


@pytest.mark.alone
def test_an_interrupted_relay_starts_and_ends(rules: list[mcr.Rule]) -> None:
    """After an interrupted block nothing runs, and no lock is held."""

    def run() -> None:
        with mcr.Relay(*rules[:5], ingress="udp") as relay:
            relay.stats()

    threads = len(os.listdir("/proc/self/task"))
    took_s = time_of(run)
    for moment in moments(took_s):
        is_interrupted(moment, run)
        deadline_s = time.monotonic() + 10
        while len(os.listdir("/proc/self/task")) > threads and time.monotonic() < deadline_s:
            time.sleep(0.001)
        assert len(os.listdir("/proc/self/task")) == threads


def test_waiting_rules_are_retried_after_an_interrupted_change(
    monkeypatch: pytest.MonkeyPatch, receiver: socket.socket
) -> None:
    """The exception is raised when the change is made, before any further step."""
    names: dict[str, str] = {}
    change = ActiveRules.change

    def getaddrinfo(host: str, _port: None, family: int, kind: int) -> list[tuple[object, ...]]:
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(family, kind, 17, "", (names[host], 0))]

    def interrupted(self: ActiveRules, **change_of: Any) -> None:  # noqa: ANN401 -- any change
        monkeypatch.setattr(ActiveRules, "change", change)
        change(self, **change_of)
        raise Interrupted

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with mcr.Relay(ingress="udp") as relay:
        monkeypatch.setattr(ActiveRules, "change", interrupted)
        with pytest.raises(Interrupted):
            relay.add_rule(f"{GROUPS[0]}%lo:5017 to late.example:{receiver.getsockname()[1]}")
        (rule,) = relay.stats().rules
        assert rule.outputs[0].parked == "its host name does not resolve"
        names["late.example"] = "127.0.0.1"
        deadline_s = time.monotonic() + 10
        while relay.stats().rules[0].outputs[0].address != "127.0.0.1":
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        send(GROUPS[:1])
        assert receiver.recv(99) == GROUPS[0].encode()


@pytest.mark.alone
def test_an_interrupted_reading_keeps_no_lock(rules: list[mcr.Rule]) -> None:
    """Another thread can use the relay, even while the exception is handled."""
    with mcr.Relay(*rules, ingress="udp") as relay:

        def read() -> None:
            try:
                relay.stats()
            except Interrupted:  # which keeps alive whatever it went through
                thread = threading.Thread(target=relay.stats, daemon=True)
                thread.start()
                thread.join(10)
                assert not thread.is_alive()

        took_s = time_of(read)
        for moment in moments(took_s):
            is_interrupted(moment, read)


ENTRY = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"][
    "scripts"
]["mcr"]


def command(arguments: list[str], importing: str, then: str) -> subprocess.Popen[str]:
    """Start the command as its script does; `then` runs when it imports a module."""
    package, _, function = ENTRY.partition(":")
    code = (
        "import os, signal, sys\n"
        "class Hook:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {importing!r}:\n"
        f"            {then}\n"
        "sys.meta_path.insert(0, Hook())\n"
        f"from {package} import {function} as run\n"
        f"sys.argv = {['mcr', *arguments]!r}\n"
        "sys.exit(run())\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("module", ["mcr.cli", "mcr.rules", "mcr.client", "typer.core", "typer"])
def test_a_command_is_interrupted_while_it_loads(module: str) -> None:
    """Ctrl-C ends it silently with 130, whatever it is importing."""
    with command(["stats", "--help"], module, "os.kill(os.getpid(), signal.SIGINT)") as started:
        told = started.communicate(timeout=30)
    assert (started.returncode, *told) == (130, "", "")


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_a_command_is_interrupted_right_at_its_start(delay_s: float) -> None:
    """At no moment is there a traceback; work done so far may be reported."""
    with command(["receive", "239.79.7.1%lo:5017"], "mcr.cli", "os.write(1, b'.')") as started:
        assert started.stdout is not None
        assert started.stdout.read(1) == "."
        time.sleep(delay_s)
        started.send_signal(signal.SIGINT)
        _, told = started.communicate(timeout=30)
    assert started.returncode in (0, 1, 130)
    assert "Traceback" not in told
    assert started.returncode != 130 or not told
