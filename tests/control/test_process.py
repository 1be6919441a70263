"""The life of the control process: its start, its successor, its end."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fake_supervisor import FakeSupervisor, Talk, daemon, until

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
    """A network namespace with a loopback, as the beginning of a command inside it."""
    name = f"mcr-{os.urandom(4).hex()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    enter = ["ip", "netns", "exec", name]
    try:
        subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True)
        yield enter
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def refused(directory: Path, *, config: bytes | None = None, state: bytes | None = None) -> str:
    """What a control process says that does not start."""
    supervisor = FakeSupervisor(directory, state=state)
    supervisor.config = config
    try:
        supervisor.start()
        until(lambda: supervisor.process.poll() is not None, "the end")
        assert supervisor.process.returncode == REFUSED_START
        assert not supervisor.ready.is_set()
        assert supervisor.keeps == 0
        return supervisor.said()
    finally:
        supervisor.close()


def test_a_successor_has_rules_revision_and_numbers(directory: Path) -> None:
    """Workers are not touched by the change of process."""
    with daemon(directory, workers=2) as supervisor:
        with Talk(supervisor.path) as talk:
            talk.call("rules.add", rules=[ONE, TWO])
            talk.call("rules.disable", rules=["one"])
            before = talk.call("rules.list")
            stream = talk.call("events.subscribe")
        supervisor.restart_control()
        assert supervisor.rules == 2
        with Talk(supervisor.path) as talk:
            assert talk.call("rules.list") == before
            again = talk.call("events.subscribe", after=stream["sequence"])
            assert again["missed"] == 0
            numbers = [
                talk.line()["params"]["sequence"]
                for _ in range(again["sequence"] - again["oldest"] + 1)
            ]
            assert numbers == list(range(stream["sequence"] + 1, again["sequence"] + 1))
        assert all("prepare" not in each.asked for each in supervisor.workers.values())


def test_a_change_that_was_not_kept_is_taken_back(directory: Path) -> None:
    """Control died between the workers' commit and the snapshot."""
    with daemon(directory) as supervisor:
        with Talk(supervisor.path) as talk:
            talk.call("rules.add", rules=[ONE])
            kept = supervisor.kept
            talk.call("rules.add", rules=[TWO])
            supervisor.kept = kept
        supervisor.restart_control()
        worker = supervisor.workers[0]
        assert worker.revision == 1
        assert len(worker.rules) == 1


def test_a_dead_workers_counts_stay_in(directory: Path) -> None:
    """And its successor, which goes on from there, is not added to them."""
    with daemon(directory, workers=2) as supervisor, Talk(supervisor.path) as talk:
        (one,) = [rule["id"] for rule in talk.call("rules.add", rules=[ONE])["added"]]
        supervisor.workers[0].counts = {one: 5}
        supervisor.workers[1].counts = {one: 2}
        assert talk.call("stats")["totals"]["matched"] == 7
        supervisor.kill_worker(1, revive=False)
        until(lambda: talk.call("ping")["workers"]["running"] == 1, "one worker")
        stats = talk.call("stats")
        assert stats["totals"]["matched"] == 7
        assert stats["stale_workers"] == [1]
        supervisor.workers[1].kernel_dropped_frames = 40
        supervisor.add_worker(1)
        until(lambda: talk.call("ping")["workers"]["running"] == 2, "both workers")
        stats = talk.call("stats")
        assert (stats["totals"]["matched"], stats["stale_workers"]) == (7, [])
        worker = talk.call("workers.list")["workers"][1]
        assert worker["last_death"]["missed_frames"] == 40
        assert worker["last_death"]["outage_ms"] >= 0
        assert worker["last_death"]["cause"] == "killed by SIGKILL"
        assert list(supervisor.workers[1].rules) == [one]


def test_a_silent_worker_holds_no_reading_up(directory: Path) -> None:
    """What it said last is in; nobody waits for it twice."""
    with daemon(directory, workers=2) as supervisor, Talk(supervisor.path) as talk:
        talk.call("rules.add", rules=[ONE])
        talk.call("stats")
        supervisor.workers[1].script["report"] = "hang"
        until(lambda: talk.call("stats")["stale_workers"] == [1], "a stale worker")
        until(lambda: supervisor.restarts == [1], "its restart", within_s=20)
        until(lambda: talk.call("stats")["stale_workers"] == [], "all again")


def test_a_configuration_is_one_transaction(directory: Path) -> None:
    """At the start and again; a wrong one changes nothing and is logged whole."""
    with daemon(directory, config=CONFIG.encode()) as supervisor, Talk(supervisor.path) as talk:
        rules = talk.call("rules.list")["rules"]
        assert [rule["enabled"] for rule in rules] == [True, False, True]
        supervisor.say({"kind": "config"}, b'rules = ["nonsense", {rule = "x", enabld = true}]')
        until(lambda: "rules stay" in supervisor.said(), "the log")
        said = supervisor.said()
        assert "rule 1, outputs" in said
        assert "rule 2, enabld: is not known; did you mean 'enabled'?" in said
        assert talk.call("rules.list")["revision"] == 1
        supervisor.say({"kind": "config"}, json.dumps({"rules": [TWO]}).encode())
        until(lambda: talk.call("ping")["revision"] == 2, "the new rules")
        (rule,) = talk.call("rules.list")["rules"]
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
def test_a_wrong_configuration_is_no_start(directory: Path, config: bytes, says: str) -> None:
    """The process ends with every mistake said, and keeps nothing."""
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
def test_a_damaged_state_is_refused_whole(directory: Path, state: str, says: str) -> None:
    """With its line and field; nothing is written over it."""
    assert says in refused(directory, state=state.encode())


def test_a_state_file_is_taken_over(directory: Path) -> None:
    """As after a boot."""
    state = head(1) + json.dumps({"rule": ONE, "enabled": False}) + "\n"
    with daemon(directory, state=state.encode()) as supervisor, Talk(supervisor.path) as talk:
        listed = talk.call("rules.list")
        assert listed["revision"] == 4
        assert [(rule["name"], rule["enabled"]) for rule in listed["rules"]] == [("one", False)]


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None,
    reason="gives the loopback an address: needs root and ip (apt-get install iproute2)",
)
def test_a_rule_that_does_not_fit_now_is_kept_and_tried_again(directory: Path) -> None:
    """As where an interface does no multicast yet."""
    lines = [{"rule": "239.1.1.9%late0:5001,name=late to 127.0.0.1:7001"}, {"rule": ONE}]
    state = head(2) + "".join(json.dumps(line) + "\n" for line in lines)
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context(namespace())
        for late in (
            ["add", "late0", "type", "veth", "peer", "name", "late1"],
            ["set", "late0", "up", "multicast", "off"],
        ):
            subprocess.run([*enter, "ip", "link", *late], check=True)
        supervisor = stack.enter_context(daemon(directory, state=state.encode(), enter=enter))
        with Talk(supervisor.path) as talk:
            listed = talk.call("rules.list")["rules"]
            assert [each["name"] for each in listed] == ["late", "one"]
            states = {each["name"]: each["state"] for each in talk.call("rules.list")["rules"]}
            assert states["one"] == "joined, no frame seen on lo"
            assert states["late"].startswith("does not fit this host now: input, interface")
            assert talk.call("rules.disable", rules=["late"])["revision"] == 5
            assert len(supervisor.workers[0].rules) == 1
            supervisor.restart_control()
        subprocess.run([*enter, "ip", "link", "set", "late0", "multicast", "on"], check=True)
        with Talk(supervisor.path) as talk:
            until(lambda: talk.call("ping")["revision"] == 6, "the rule is taken up")
            late = talk.call("rules.get", rule="late")["rule"]
            assert (late["enabled"], late["state"]) == (False, "disabled")
            assert supervisor.workers[0].rules[late["id"]]["paused"]
            assert talk.call("rules.remove", rules=["late"])["removed"] == [late["id"]]


def test_a_full_disk_stops_nothing(directory: Path) -> None:
    """It is a warning of the change."""
    with daemon(directory) as supervisor, Talk(supervisor.path) as talk:
        supervisor.state_fails = True
        (warning,) = talk.call("rules.add", rules=[ONE])["warnings"]
        assert "cannot write the state file" in warning
        assert talk.call("ping")["revision"] == 1


def test_draining_reports_and_ends(directory: Path) -> None:
    """Workers stop first; the report names every rule."""
    with daemon(directory) as supervisor, Talk(supervisor.path) as talk:
        (one,) = [rule["id"] for rule in talk.call("rules.add", rules=[ONE])["added"]]
        supervisor.workers[0].counts = {one: 12}
        supervisor.say({"kind": "drain"})
        until(supervisor.drained.is_set, "drained")
        assert supervisor.process.wait(5) == 0
        assert "stop" in supervisor.workers[0].asked
        assert talk.is_closed()
        said = supervisor.said()
        assert "1 rule at the end: sent 12 of 12, lost 0" in said
        assert "rule one: matched 12, sent 12, lost 0" in said


def test_without_a_supervisor_nothing_stays(directory: Path) -> None:
    """Neither the process nor the socket."""
    with daemon(directory) as supervisor:
        supervisor.leash.shutdown(2)
        assert supervisor.process.wait(5) == 1
        assert not supervisor.path.exists()


def test_the_pulse_goes_on_under_load(directory: Path) -> None:
    """The supervisor would kill a loop that hangs."""
    with daemon(directory) as supervisor, Talk(supervisor.path) as talk:
        before, began_s = supervisor.pulses, time.monotonic()
        talk.call("rules.add", rules=many(3000))
        talk.call("stats")
        elapsed_s = time.monotonic() - began_s
        until(lambda: supervisor.pulses > before, "a pulse")
        assert supervisor.pulses - before >= int(elapsed_s / 0.5) - 1


def test_messages_that_do_not_fit_are_survived(directory: Path) -> None:
    """And their descriptors are closed."""
    with daemon(directory) as supervisor, Talk(supervisor.path) as talk:
        descriptors = Path(f"/proc/{supervisor.process.pid}/fd")
        talk.call("ping")
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
        supervisor.say({"kind": "note", "level": "warning", "text": "the disk is full"})
        until(lambda: "the disk is full" in supervisor.said(), "the note")
        assert talk.call("ping")
        assert len(os.listdir(descriptors)) == before


def many(count: int) -> list[str]:
    """So many rules."""
    return [
        f"239.{1 + n // 60000}.{n // 250 % 240}.{n % 250}%lo:5001 to 127.0.0.1:7001"
        for n in range(count)
    ]
