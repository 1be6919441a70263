"""The control process: its start, its successor, its shutdown."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.fake_supervisor import FakeSupervisor, control_process
from tests.support.raw_client import RawClient

from mcr.protocol.constants import REFUSED_START

ONE = "239.1.1.1%lo:5001,name=one to 127.0.0.1:7001"
TWO = "239.1.1.2%lo:5001 to 127.0.0.1:7002"
CONFIG = f"""
rules = [
  "{ONE}",
  {{ rule = "{TWO}", enabled = false }},
  {{ input = {{ address = "239.1.1.3", port = 5001, interface = "lo" }}, outputs = [
    {{ address = "127.0.0.1", port = 7003 }},
  ] }},
]
"""


@contextlib.contextmanager
def namespace() -> Iterator[list[str]]:
    """The prefix of a command that runs in a network namespace with a loopback."""
    name = f"mcr-{os.urandom(4).hex()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    enter = ["ip", "netns", "exec", name]
    try:
        subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True)
        yield enter
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def refused(directory: Path, *, config: bytes | None = None, state: bytes | None = None) -> str:
    """The error of a control process that does not start."""
    supervisor = FakeSupervisor(directory, state=state)
    supervisor.config = config
    try:
        supervisor.start()
        wait_until(lambda: supervisor.process.poll() is not None, what="the end")
        assert supervisor.process.returncode == REFUSED_START
        assert not supervisor.ready.is_set()
        assert supervisor.keeps == 0
        return supervisor.said()
    finally:
        supervisor.close()


def test_levels_hold_from_the_start(directory: Path) -> None:
    """In workers as well: they get the levels of the facilities that they log for."""
    levels = "error,interfaces=debug"
    with (
        control_process(directory, log_level=levels) as supervisor,
        RawClient(supervisor.path) as client,
    ):
        assert supervisor.workers[0].log_levels == {
            **dict.fromkeys(("worker", "ingress", "egress"), "error"),
            "interfaces": "debug",
        }
        found = client.call("logs.get")
        assert (found["global"], found["facilities"]["interfaces"]) == ("error", "debug")


def test_a_successor_has_rules_revision_and_numbers(directory: Path) -> None:
    """The new process changes nothing in the workers."""
    with control_process(directory, workers=2) as supervisor:
        with RawClient(supervisor.path) as client:
            client.call("rules.add", rules=[ONE, TWO])
            client.call("rules.disable", rules=["one"])
            before = client.call("rules.list")
            stream = client.call("events.subscribe")
        supervisor.restart_control()
        assert supervisor.rules == 2
        with RawClient(supervisor.path) as client:
            after = client.call("rules.list")
            assert (after["revision"], after["rules"]) == (before["revision"], before["rules"])
            again = client.call("events.subscribe", after=stream["sequence"])
            assert again["missed"] == 0
            numbers = [
                client.line()["params"]["sequence"]
                for _ in range(again["sequence"] - again["oldest"] + 1)
            ]
            assert numbers == list(range(stream["sequence"] + 1, again["sequence"] + 1))
        assert all("prepare" not in each.asked for each in supervisor.workers.values())


def test_a_change_that_was_not_kept_is_undone(directory: Path) -> None:
    """Control died between the workers' commit and the snapshot."""
    with control_process(directory) as supervisor:
        with RawClient(supervisor.path) as client:
            client.call("rules.add", rules=[ONE])
            kept = supervisor.kept
            client.call("rules.add", rules=[TWO])
            supervisor.kept = kept
        supervisor.restart_control()
        worker = supervisor.workers[0]
        assert worker.revision == 1
        assert len(worker.rules) == 1


def test_the_counts_of_a_dead_worker_stay(directory: Path) -> None:
    """Its successor continues them, and they are not added twice."""
    with control_process(directory, workers=2) as supervisor, RawClient(supervisor.path) as client:
        (one,) = [rule["id"] for rule in client.call("rules.add", rules=[ONE])["added"]]
        supervisor.workers[0].counts = {one: 5}
        supervisor.workers[1].counts = {one: 2}
        assert client.call("stats")["totals"]["matched"] == 7
        supervisor.kill_worker(1, revive=False)
        wait_until(lambda: client.call("ping")["workers"]["running"] == 1, what="one worker")
        stats = client.call("stats")
        assert (stats["totals"]["matched"], stats["stale_workers"]) == (7, [])
        supervisor.workers[1].kernel_dropped_frames = 40
        supervisor.add_worker(1)
        wait_until(lambda: client.call("ping")["workers"]["running"] == 2, what="both workers")
        stats = client.call("stats")
        assert (stats["totals"]["matched"], stats["stale_workers"]) == (7, [])
        worker = client.call("workers.list")["workers"][1]
        assert worker["last_death"]["missed_frames"] == 40
        assert worker["last_death"]["outage_ms"] >= 0
        assert worker["last_death"]["cause"] == "killed by SIGKILL"
        assert list(supervisor.workers[1].rules) == [one]


def test_a_worker_that_gives_no_sign_of_life_is_silent_and_restarted(directory: Path) -> None:
    """Its counters are read all the same."""
    with control_process(directory, workers=2) as supervisor, RawClient(supervisor.path) as client:
        (one,) = [rule["id"] for rule in client.call("rules.add", rules=[ONE])["added"]]
        supervisor.workers[1].counts = {one: 2}
        for age_s, state in ((0, "running"), (5, "silent")):
            supervisor.pages[1].write_alive(round((time.monotonic() - age_s) * 1000))
            stats = client.call("stats")
            assert client.call("workers.list")["workers"][1]["state"] == state
            assert (stats["totals"]["matched"], stats["stale_workers"]) == (2, [])
            assert supervisor.restarts == []
        supervisor.pages[1].write_alive(round((time.monotonic() - 15) * 1000))
        wait_until(lambda: supervisor.restarts == [1], what="its restart")
        wait_until(lambda: client.call("ping")["workers"]["running"] == 2, what="both workers")


def test_a_worker_stopped_while_publishing_delays_no_reading(directory: Path) -> None:
    """Its last counts are included and marked, until its successor publishes."""
    with control_process(directory, workers=2) as supervisor, RawClient(supervisor.path) as client:
        (one,) = [rule["id"] for rule in client.call("rules.add", rules=[ONE])["added"]]
        supervisor.workers[0].counts = {one: 5}
        supervisor.workers[1].counts = {one: 2}
        assert client.call("stats")["totals"]["matched"] == 7
        supervisor.pages[1].stop_publishing()
        began_s = time.monotonic()
        stats = client.call("stats")
        assert time.monotonic() - began_s < 1
        assert (stats["totals"]["matched"], stats["stale_workers"]) == (7, [1])
        supervisor.kill_worker(1)
        wait_until(lambda: client.call("stats")["stale_workers"] == [], what="all again")
        assert client.call("stats")["totals"]["matched"] == 7


def test_a_configuration_is_one_transaction(directory: Path) -> None:
    """At the start and on reload; an invalid one changes nothing and is logged."""
    with (
        control_process(directory, config=CONFIG.encode()) as supervisor,
        RawClient(supervisor.path) as client,
    ):
        rules = client.call("rules.list")["rules"]
        assert [rule["enabled"] for rule in rules] == [True, False, True]
        supervisor.configure(b'rules = ["nonsense", {rule = "x", enabld = true}]')
        wait_until(lambda: "rules stay" in supervisor.said(), what="the log")
        said = supervisor.said()
        assert "mcr.toml:1, rule 1, outputs" in said
        assert "mcr.toml:1, rule 2, enabld: is not known; did you mean 'enabled'?" in said
        assert client.call("rules.list")["revision"] == 1
        supervisor.configure(json.dumps({"rules": [TWO]}).encode())
        wait_until(lambda: client.call("ping")["revision"] == 2, what="the new rules")
        (rule,) = client.call("rules.list")["rules"]
        assert (rule["rule"], rule["enabled"]) == (TWO, True)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (b"rules = [", "neither TOML nor JSON"),
        (b"\xff", "not UTF-8"),
        (b"rulez = []", "did you mean 'rules'?"),
        (b'rules = ["239.1.1.1%lo:5001 to 239.1.1.1%lo:5001"]', "rule 1, output 1"),
    ],
)
def test_an_invalid_configuration_prevents_the_start(
    directory: Path, config: bytes, says: str
) -> None:
    """The process logs all errors, keeps nothing and exits."""
    assert says in refused(directory, config=config)


def head(count: int, **changed: object) -> str:
    """The first line of a state file."""
    levels = {"everything": "info", "facilities": {}}
    made = {"mcr": "rules", "version": 1, "revision": 4, "sequence": 9, "log_levels": levels}
    return json.dumps({**made, "hosts": [], "count": count, **changed}) + "\n"


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("", "line 1"),
        ("nonsense\n", "line 1"),
        (head(0, version=2), "line 1, version"),
        (head(0, extra=2), "line 1, extra: is not known"),
        (head(2) + '{"rule":"x"}\n', "line 1, count: says 2 rules, but 1 follow"),
        (head(1) + '{"rule":"x"}\n', "line 2, outputs"),
        (head(1) + '{"rule":\n', "line 2"),
        (head(0, hosts=[{"host": "a", "version": 0, "addresses": ["x"]}]), "line 1, hosts"),
    ],
)
def test_a_damaged_state_is_refused(directory: Path, state: str, says: str) -> None:
    """The error has the line and field; the file is not overwritten."""
    assert says in refused(directory, state=state.encode())


def test_a_state_file_is_restored(directory: Path) -> None:
    """As after a boot."""
    state = head(1) + json.dumps({"rule": ONE, "enabled": False}) + "\n"
    with (
        control_process(directory, state=state.encode()) as supervisor,
        RawClient(supervisor.path) as client,
    ):
        listed = client.call("rules.list")
        assert listed["revision"] == 4
        assert [(rule["name"], rule["enabled"]) for rule in listed["rules"]] == [("one", False)]


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None,
    reason="gives the loopback an address: needs root and ip (apt-get install iproute2)",
)
def test_a_rule_that_does_not_fit_is_kept_and_retried(directory: Path) -> None:
    """For example while an interface has multicast disabled."""
    lines = [{"rule": "239.1.1.9%late0:5001,name=late to 127.0.0.1:7001"}, {"rule": ONE}]
    state = head(2) + "".join(json.dumps(line) + "\n" for line in lines)
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context(namespace())
        for late in (
            ["add", "late0", "type", "veth", "peer", "name", "late1"],
            ["set", "late0", "up", "multicast", "off"],
        ):
            subprocess.run([*enter, "ip", "link", *late], check=True)
        supervisor = stack.enter_context(
            control_process(directory, state=state.encode(), enter=enter)
        )
        with RawClient(supervisor.path) as client:
            listed = client.call("rules.list")["rules"]
            assert [each["name"] for each in listed] == ["late", "one"]
            states = {each["name"]: each["state"] for each in client.call("rules.list")["rules"]}
            assert states["one"] == "joined, no frame seen on lo"
            assert states["late"].startswith("does not fit this host now: input, interface")
            assert client.call("rules.disable", rules=["late"])["revision"] == 5
            assert len(supervisor.workers[0].rules) == 1
            supervisor.restart_control()
        subprocess.run([*enter, "ip", "link", "set", "late0", "multicast", "on"], check=True)
        with RawClient(supervisor.path) as client:
            wait_until(lambda: client.call("ping")["revision"] == 6, what="the rule is taken up")
            late = client.call("rules.get", rule="late")["rule"]
            assert (late["enabled"], late["state"]) == (False, "disabled")
            assert not supervisor.workers[0].rules[late["id"]]["enabled"]
            assert client.call("rules.remove", rules=["late"])["removed"] == [late["id"]]


def test_a_full_disk_is_a_warning(directory: Path) -> None:
    """The change is made."""
    with control_process(directory) as supervisor, RawClient(supervisor.path) as client:
        supervisor.state_fails = True
        (warning,) = client.call("rules.add", rules=[ONE])["warnings"]
        assert "cannot write the state file" in warning
        assert client.call("ping")["revision"] == 1


def test_draining_reports_and_ends(directory: Path) -> None:
    """Workers stop first; the final report names every rule."""
    with control_process(directory) as supervisor, RawClient(supervisor.path) as client:
        (one,) = [rule["id"] for rule in client.call("rules.add", rules=[ONE])["added"]]
        supervisor.workers[0].counts = {one: 12}
        supervisor.say({"kind": "drain"})
        wait_until(supervisor.drained.is_set, what="drained")
        assert supervisor.process.wait(5) == 0
        assert "stop" in supervisor.workers[0].asked
        assert client.is_closed()
        said = supervisor.said()
        assert "1 rule at revision 1: sent 12 of 12, lost 0" in said
        assert f"rule {one} (one): " in said
        assert ": sent 12 of 12 (" in said


def test_without_a_supervisor_nothing_stays(directory: Path) -> None:
    """Neither the process nor the socket."""
    with control_process(directory) as supervisor:
        supervisor.supervisor_channel.shutdown(2)
        assert supervisor.process.wait(5) == 1
        assert not supervisor.path.exists()


def test_heartbeats_continue_under_load(directory: Path) -> None:
    """The supervisor kills a process whose event loop hangs."""
    with control_process(directory) as supervisor, RawClient(supervisor.path) as client:
        before, began_s = supervisor.heartbeats, time.monotonic()
        client.call("rules.add", rules=many(3000))
        client.call("stats")
        elapsed_s = time.monotonic() - began_s
        wait_until(lambda: supervisor.heartbeats > before, what="a heartbeat")
        assert supervisor.heartbeats - before >= int(elapsed_s / 0.5) - 1


def test_invalid_messages_are_ignored(directory: Path) -> None:
    """Their descriptors are closed."""
    with control_process(directory) as supervisor, RawClient(supervisor.path) as client:
        descriptors = Path(f"/proc/{supervisor.process.pid}/fd")
        client.call("ping")
        before = len(os.listdir(descriptors))
        for word in (
            {"kind": "what"},
            {"kind": "drain"},
            {},
            {"kind": 1},
        ):
            supervisor.say(word, b"x")
        supervisor.say({"kind": "worker", "number": 9, "pid": 1, "incarnation": 1}, b"x")
        supervisor.say({"kind": "config"})
        supervisor.say(
            {
                "kind": "note",
                "level": "warning",
                "facility": "supervisor",
                "text": "the disk is full",
            }
        )
        wait_until(lambda: "the disk is full" in supervisor.said(), what="the note")
        assert client.call("ping")
        assert len(os.listdir(descriptors)) == before


def many(count: int) -> list[str]:
    """This many rules."""
    return [
        f"239.{1 + n // 60000}.{n // 250 % 240}.{n % 250}%lo:5001 to 127.0.0.1:7001"
        for n in range(count)
    ]
