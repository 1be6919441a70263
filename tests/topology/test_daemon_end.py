"""The end of a daemon, by a kill or a shutdown, and the next start."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.processes import is_running

from mcr.daemon.supervisor.watchdog import CONTROL_SILENCE_S

from .checks import PROCESS_S, assert_balanced, sent_counts, settle
from .daemons import MCR, Daemon, serving
from .deaths import stopped
from .lab import Lab
from .relays import Ingress
from .traffic import PacedFlow, payloads

RATE_PPS = 5000
ONE = "239.1.98.1%in0:5001,name=one to 239.2.98.1%out0:6001"
TWO = "239.1.98.2%in0:5001,name=two to 239.2.98.2%out0:6001"


def relays(lab: Lab, daemon: Daemon) -> None:
    """Add a rule to the daemon, and check that it relays."""
    with (
        daemon.client() as client,
        lab.receive("239.2.98.1", 6001) as receiver,
        lab.sender("239.1.98.1", 5001) as sender,
    ):
        client.replace_rules([ONE])
        sender.send(payloads(20))
        receiver.expect(payloads(20))


@pytest.mark.parametrize("stops", ["nobody", "control", "worker"])
def test_nothing_stays_of_a_killed_supervisor(lab: Lab, tmp_path: Path, stops: str) -> None:
    """Within a second all its processes end; the next daemon starts at the same path."""
    path = tmp_path / "run" / "mcr.sock"
    tmp_path.chmod(0o755)
    with serving(lab.relay, "--workers", "2", socket=path) as daemon:
        relays(lab, daemon)
        everybody = daemon.processes
        victims = {"nobody": [], "control": [daemon.control], "worker": daemon.workers[:1]}
        with stopped(*victims[stops]):
            os.kill(daemon.supervisor, signal.SIGKILL)
            wait_until(lambda: not any(is_running(pid) for pid in everybody), 1.0)
    with serving(lab.relay, socket=path) as successor:
        relays(lab, successor)
        assert successor.end() == 0
    assert list(path.parent.iterdir()) == []


def test_a_supervisor_that_was_stopped_kills_no_child(lab: Lab) -> None:
    """Longer than any watchdog permits; traffic and clients continue meanwhile."""
    with (
        serving(lab.relay, "--workers", "2") as daemon,
        daemon.client() as client,
        lab.receive("239.2.98.1", 6001) as receiver,
        lab.sender("239.1.98.1", 5001) as sender,
    ):
        client.add_rules([ONE, TWO])
        everybody = daemon.processes
        with PacedFlow(sender, 1000) as flow:
            with stopped(daemon.supervisor):
                time.sleep(CONTROL_SILENCE_S / 2)
                assert client.ping().workers.running == 2
                time.sleep(CONTROL_SILENCE_S / 2 + 1)
            client.disable_rule("two")  # kept by the supervisor, so that it has read what waited
            time.sleep(1)
        receiver.expect(flow.sent)
        assert daemon.processes == everybody
        assert [worker.deaths for worker in client.workers()] == [0, 0]


def test_received_datagrams_are_sent_before_the_end(lab: Lab, ingress: Ingress) -> None:
    """SIGTERM under load: outputs got what the final report says, in order; exit code 0."""
    with (
        serving(lab.relay, "--ingress", ingress) as daemon,
        lab.receive("239.2.98.1", 6001) as receiver,
        lab.sender("239.1.98.1", 5001) as sender,
    ):
        with daemon.client() as client:
            client.add_rule(ONE)
        with PacedFlow(sender, RATE_PPS) as flow:
            flow.advance(RATE_PPS // 4)
            assert daemon.end() == 0
        arrived = len(receiver.drain())
        assert arrived >= RATE_PPS // 4
        assert receiver.collected == flow.sent[:arrived]
        assert f"interfaces: received {arrived}, matched {arrived}, kernel" in daemon.log
        assert f"1 rule at revision 1: sent {arrived} of {arrived}, lost 0\n" in daemon.log
        assert f": sent {arrived} of {arrived} (" in daemon.log
        assert not daemon.socket.exists()


def test_a_second_request_ends_the_daemon_at_once(lab: Lab) -> None:
    """Even if a report would take long, since control is stopped."""
    with serving(lab.relay) as daemon:
        everybody = daemon.processes
        with stopped(daemon.control):
            daemon.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert daemon.process.poll() is None
            began_s = time.monotonic()
            assert daemon.end() == 1
            assert time.monotonic() - began_s < 2
        assert "without a report" in daemon.log
        assert not any(is_running(pid) for pid in everybody)
        assert not daemon.socket.exists()


def test_two_daemons_side_by_side(lab: Lab, ingress: Ingress) -> None:
    """On one interface and group: each relays everything, and ends separately."""
    second_rule = ONE.replace("239.2.98.1", "239.2.98.2")
    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(serving(lab.relay, "--ingress", ingress)) for _ in range(2)
        )
        receivers = [
            stack.enter_context(lab.receive(group, 6001)) for group in ("239.2.98.1", "239.2.98.2")
        ]
        sender = stack.enter_context(lab.sender("239.1.98.1", 5001))
        datagrams = payloads(300)
        with first.client() as one, second.client() as other:
            one.add_rule(ONE)
            other.add_rule(second_rule)
            sender.send(datagrams[:150])
            for receiver in receivers:
                receiver.expect(datagrams[:150])
            for client in (one, other):
                settle(client, lambda stats: sent_counts(stats) == [150])
        assert first.end() == 0
        sender.send(datagrams[150:])
        receivers[1].expect(datagrams)
        assert receivers[0].drain() == datagrams[:150]
        with second.client() as other:
            assert_balanced(settle(other, lambda stats: sent_counts(stats) == [300]))


def test_rules_survive_a_restart(lab: Lab, tmp_path: Path) -> None:
    """In the state file: texts, ids, enabled or not, revision, numbers of events."""
    state = tmp_path / "rules"
    with serving(lab.relay, "--state", str(state)) as daemon, daemon.client() as client:
        client.add_rules([ONE, TWO])
        client.disable_rule("two")
        before, sequence = client.rules(), client.hello().sequence
        assert daemon.end() == 0
    assert state.stat().st_mode & 0o777 == 0o600
    with serving(lab.relay, "--state", str(state)) as daemon:
        assert "2 rules\n" in daemon.log
        with daemon.client() as client:
            after = client.rules()
            assert (after.revision, [(r.id, r.rule, r.enabled) for r in after]) == (
                before.revision,
                [(r.id, r.rule, r.enabled) for r in before],
            )
            assert sequence < client.hello().sequence < sequence + 100
        os.kill(daemon.supervisor, signal.SIGKILL)
    with serving(lab.relay, "--state", str(state)) as daemon, daemon.client() as client:
        assert client.rules().revision == before.revision


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "line 1"),
        (b'{"mcr":"rul', "line 1"),
        (b"\xff\xfe", "line 1"),
        (None, "count: says 2 rules, but 1 follow"),
    ],
)
def test_a_damaged_state_file_is_refused(
    lab: Lab, tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    """At once, with one line that says what to do; the file is unchanged."""
    state = tmp_path / "rules"
    if content is None:
        with serving(lab.relay, "--state", str(state)) as daemon, daemon.client() as client:
            client.add_rules([ONE, TWO])
        content = b"".join(state.read_bytes().splitlines(keepends=True)[:2])
    state.write_bytes(content)
    own = ("--socket", str(tmp_path / "s"), "--state", str(state), "--log-level", "warning")
    command = lab.relay.command(MCR, "serve", *own)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PROCESS_S)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert f"the state file {state} cannot be used: " in done.stderr
    assert "; repair or move away the file\n" in done.stderr
    assert done.stderr.count("\n") == 2
    assert state.read_bytes() == content
    assert not (tmp_path / "s").exists()


def test_a_full_disk_is_a_warning(lab: Lab, tmp_path: Path) -> None:
    """Of the change, which is made; the file keeps its content."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=16k none {disk} && exec "$@"'  # its own mounts, by netns
    many = [f"239.1.98.{at}%in0:5001 to 239.2.98.1%out0:6001" for at in range(3, 250)]
    with (
        serving(
            lab.relay, "--state", str(disk / "rules"), before=("sh", "-c", script, "sh")
        ) as daemon,
        daemon.client() as client,
    ):
        assert client.add_rule(ONE) is not None
        (warning,) = client.add_rules(many).warnings
        assert "state file" in warning
        daemon.wait_for("No space left on device; the rules stay in memory")
        assert len(client.rules()) == 1 + len(many)
        seen = Path(f"/proc/{daemon.supervisor}/root{disk}")
        assert [path.name for path in seen.iterdir()] == ["rules"]
        assert b'"count":1' in (seen / "rules").read_bytes()
        (gone,) = [each for each in client.rules() if each.name == "one"]
        assert client.replace_rules([gone.rule]).warnings == ()
