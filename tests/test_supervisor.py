"""The supervisor's main loop as a process, with fake control and worker processes."""

import contextlib
import functools
import os
import resource
import signal
import stat
import struct
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.processes import is_running
from tests.support.supervisor_process import (
    SOON_S,
    WORKER,
    SupervisorProcess,
    supervisor_process,
)

from mcr.daemon.control.supervisor_channel import Note
from mcr.daemon.supervisor.watchdog import CONTROL_SILENCE_S, WORKER_SILENCE_S


@pytest.fixture
def running(tmp_path: Path) -> Iterator[SupervisorProcess]:
    """A daemon with one worker, which is ready."""
    with supervisor_process(tmp_path) as made:
        yield made.until_ready()


def channels(made: SupervisorProcess) -> list[tuple[int, str]]:
    """The workers that control was connected to, and their process ids at the other end."""
    return [(message["pid"], message["content"]) for message in made.messages("worker")]


def test_control_gets_its_initial_messages(running: SupervisorProcess) -> None:
    """Their order and content, and the descriptors that children inherit."""
    kinds = [entry["message"]["kind"] for entry in running.journal("told")]
    assert kinds == ["restore", "worker", "begin"]
    pid = running.pid(WORKER)
    (message,) = running.messages("worker")
    assert (message["number"], message["incarnation"], message["cpu"]) == (0, 1, None)
    assert channels(running) == [(pid, f"worker 0 {pid}")]
    assert running.said() == f"ready: socket {running.path}, 1 worker, ingress udp, 0 rules\n"
    (start,) = running.journal("start")
    own = [start["told"][name] for name in ("supervisor_channel", "broker", "page")]
    journal = 1  # a descriptor that the fake has opened by itself
    assert len(start["open"]) == 3 + len(own) + journal
    assert set(own) < set(start["open"])
    assert (running.directory / "shrunk-False").exists()


def test_a_killed_worker_is_restarted_at_once_with_its_page(running: SupervisorProcess) -> None:
    """With the same counters and a new channel; a second death delays the restart."""
    first = running.pid(WORKER)
    os.kill(first, signal.SIGKILL)
    (ended,) = wait_until(lambda: running.messages("worker_ended"))
    second = wait_until(lambda: [pid for pid, _ in channels(running) if pid != first])[0]
    assert (ended["pid"], ended["cause"]) == (first, "killed by SIGKILL")
    assert (ended["incarnation"], ended["restart_in_ms"], ended["deaths"]) == (1, 0, 1)
    assert abs(ended["at"] - time.time()) < 20
    assert channels(running)[-1] == (second, f"worker 0 {second}")
    again = running.messages("worker")[-1]
    assert (again["incarnation"], again["deaths"]) == (2, 1)
    assert (again["last_death"]["at"], again["last_death"]["cause"]) == (
        ended["at"],
        ended["cause"],
    )
    assert ended["at"] <= again["started_at"] <= time.time()
    before, after = running.journal("start")
    assert before["page"] == after["page"]
    assert after["at"] - before["at"] < 20
    os.kill(second, signal.SIGTERM)
    ended = wait_until(lambda: running.messages("worker_ended")[1:])[0]
    assert (ended["cause"], ended["restart_in_ms"]) == ("killed by SIGTERM", 250)


def test_a_crash_loop_slows_down(running: SupervisorProcess) -> None:
    """Delays of 0, 250, 500 and 1000 ms; control keeps running."""
    (running.directory / "crash-0").write_text("70")
    os.kill(running.pid(WORKER), signal.SIGKILL)
    starts = wait_until(lambda: running.journal("start")[1:6][4:] and running.journal("start")[1:6])
    gaps = [after["at"] - before["at"] for before, after in pairwise(starts)]
    for gap, wanted in zip(gaps, (0.25, 0.5, 1, 2), strict=True):
        assert wanted <= gap < wanted + SOON_S
    deaths = running.messages("worker_ended")[:5]
    delays_ms = [death["restart_in_ms"] for death in deaths]
    assert delays_ms == pytest.approx([0, 250, 500, 1000, 2000], abs=100)  # of when it is told
    assert {death["cause"] for death in deaths[1:]} == {"ended with code 70"}
    assert [death["deaths"] for death in deaths] == [1, 2, 3, 4, 5]
    running.order("keep", "[7]")


def test_a_stopped_worker_is_replaced_after_three_seconds(running: SupervisorProcess) -> None:
    """It sends no heartbeat; it is killed, and control gets the cause."""
    stopped_at = time.monotonic()
    os.kill(running.pid(WORKER), signal.SIGSTOP)
    (ended,) = wait_until(lambda: running.messages("worker_ended"))
    assert ended["cause"] == "did not answer for 3 s"
    took = time.monotonic() - stopped_at
    assert WORKER_SILENCE_S - 0.5 < took < WORKER_SILENCE_S + SOON_S
    wait_until(lambda: len(channels(running)) == 2)


def test_a_stopped_control_is_replaced_after_five_seconds(tmp_path: Path) -> None:
    """Workers keep running; the successor gets the kept rules and new channels."""
    with supervisor_process(tmp_path, workers=2) as made:
        made.until_ready()
        made.order("keep", "[1,2,3]")
        wait_until(lambda: made.journal("kept"))
        before = made.pid("control")
        workers = {made.pid(WORKER), made.pid("worker 1")}
        stopped_at = time.monotonic()
        os.kill(before, signal.SIGSTOP)
        wait_until(lambda: made.pid("control") != before)
        took = time.monotonic() - stopped_at
        assert CONTROL_SILENCE_S - 0.5 < took < CONTROL_SILENCE_S + SOON_S
        wait_until(lambda: made.messages("begin")[1:])
        told = [entry for entry in made.journal("told") if entry["pid"] != before]
        kinds = [entry["message"]["kind"] for entry in told]
        assert kinds == ["restore", "worker", "worker", "note", "begin"]
        assert told[0]["content"] == "[1,2,3]"
        assert {entry["message"]["pid"] for entry in told[1:3]} == workers
        note = Note.model_validate(told[3]["message"])  # as the real control reads it
        assert note.text == "control was restarted: did not answer for 5 s"
        wait_until(lambda: "control is serving again" in made.said())
        assert all(map(is_running, workers))
        assert (
            f"warning: supervisor: control (pid {before}) did not answer for 5 s; " in made.said()
        )
        made.order("keep", "[]")


def test_a_new_control_learns_of_a_dead_worker(running: SupervisorProcess) -> None:
    """First that it waits for its restart, and then of the restart."""
    crash = running.directory / "crash-0"
    crash.write_text("70")
    os.kill(running.pid(WORKER), signal.SIGKILL)
    wait_until(lambda: running.messages("worker_ended")[-1:] and waits_ms(running) >= 1000)
    before = running.pid("control")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: len(running.messages("begin")) == 2)
    told = [entry["message"] for entry in running.journal("told") if entry["pid"] != before]
    assert [message["kind"] for message in told[:4]] == ["restore", "worker_ended", "note", "begin"]
    assert 0 < told[1]["restart_in_ms"] <= 1000
    crash.unlink()
    count = len(channels(running))
    wait_until(lambda: len(channels(running)) > count)


def waits_ms(made: SupervisorProcess) -> int:
    """The delay before the restart of the worker that died last."""
    wait: int = made.messages("worker_ended")[-1]["restart_in_ms"]
    return wait


def test_a_stopped_supervisor_kills_no_child(tmp_path: Path) -> None:
    """Heartbeats count even if they are read late; a child that was stopped too is spared."""
    with supervisor_process(tmp_path, silence_s=2) as made:
        made.until_ready()
        pids = (made.pid(WORKER), made.pid("control"))
        made.process.send_signal(signal.SIGSTOP)
        time.sleep(3)  # longer than the limit: the time itself is what is tested
        made.process.send_signal(signal.SIGCONT)
        made.order("keep", "[1]")
        wait_until(lambda: made.journal("kept"))
        time.sleep(1)
        assert pids == (made.pid(WORKER), made.pid("control"))
        assert not made.messages("worker_ended")


def test_a_killed_supervisor_does_not_prevent_the_next_start(tmp_path: Path) -> None:
    """Its children die too; its socket and lock are replaced."""
    with supervisor_process(tmp_path) as made:
        made.until_ready()
        pids = [made.pid(WORKER), made.pid("control")]
        made.process.kill()
        with supervisor_process(tmp_path / "next", socket=str(made.path)) as successor:
            successor.until_ready()
            successor.order("keep", "[]")
            wait_until(lambda: not any(map(is_running, pids)))
            assert successor.end() == 0
        assert not made.path.exists()
        assert not Path(f"{made.path}.lock").exists()


def test_two_daemons_side_by_side(tmp_path: Path) -> None:
    """Each has its own socket and shutdown."""
    with supervisor_process(tmp_path / "a") as one, supervisor_process(tmp_path / "b") as other:
        one.until_ready()
        other.until_ready()
        assert one.end() == 0
        other.order("keep", "[]")
        assert other.end() == 0


def test_the_same_socket_twice_is_refused(running: SupervisorProcess) -> None:
    """The error names the running daemon, which is not affected."""
    with supervisor_process(running.directory / "second", socket=str(running.path)) as second:
        assert second.process.wait(20) == 1
        who = f"a daemon with pid {running.process.pid} serves {running.path}"
        assert who in second.said()
    running.order("keep", "[]")


def test_the_socket_is_for_its_group(running: SupervisorProcess) -> None:
    """Mode 0660, whatever the umask is."""
    status = running.path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert status.st_gid == os.getegid()


def test_too_few_descriptors_end_no_supervisor(running: SupervisorProcess) -> None:
    """Starts that fail are retried with growing delays until they succeed."""
    pid = running.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir(f"/proc/{pid}/fd")))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 1, hard))
    os.kill(running.pid(WORKER), signal.SIGKILL)
    cause = "could not be started: Too many open files"
    wait_until(lambda: cause in [death["cause"] for death in running.messages("worker_ended")])
    count = len(channels(running))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    wait_until(lambda: len(channels(running)) > count)
    running.order("keep", "[1]")
    wait_until(lambda: running.journal("kept"))


@pytest.mark.parametrize(
    ("orders", "cause"),
    [
        (["raw", "5058"], "sent an unknown message"),
        (["raw", b"R\x09\x00\x01\x00\x00\x00".hex()], "named a worker that does not exist"),
        (["raw", b"R".hex()], "sent an unknown message"),
        (["raw", "00" * 5000], "sent an unknown message"),
        (["keep-unsealed"], "sent an invalid rule set snapshot: the memfd is not sealed"),
        (["exit", "7"], "ended with code 7"),
    ],
)
def test_a_hostile_control_is_replaced(
    running: SupervisorProcess, orders: list[str], cause: str
) -> None:
    """Whatever control sends, the supervisor and the worker keep running."""
    worker = running.pid(WORKER)
    running.order(*orders)
    wait_until(lambda: len(running.messages("begin")) == 2)
    assert cause in running.said()
    assert running.pid(WORKER) == worker


@pytest.mark.parametrize(
    ("order", "cause"),
    [
        ("broker bad", "was rejected by the broker: no such request"),
        ("supervisor_channel S", "sent a message that is reserved for control"),
        ("supervisor_channel X", "sent an unknown message"),
        ("hang-up", "closed its channel to the supervisor"),
    ],
)
def test_a_hostile_worker_is_replaced(running: SupervisorProcess, order: str, cause: str) -> None:
    """Whatever a worker sends, only that worker is killed."""
    control = running.pid("control")
    running.order("tell", "0", order)
    (ended,) = wait_until(lambda: running.messages("worker_ended"))
    assert ended["cause"] == cause
    wait_until(lambda: len(channels(running)) == 2)
    assert running.pid("control") == control


def test_control_may_have_a_worker_restarted(running: SupervisorProcess) -> None:
    """One that sends heartbeats, but does not answer control; not the successor of another."""
    worker = running.pid(WORKER)
    running.order("raw", struct.pack("<cHI", b"R", 0, worker + 1).hex())
    running.order("raw", struct.pack("<cHI", b"R", 0, worker).hex())
    (ended,) = wait_until(lambda: running.messages("worker_ended"))
    assert ended["pid"] == worker
    assert ended["cause"] == "did not answer control"


def test_restarts_leave_no_descriptor_behind(running: SupervisorProcess) -> None:
    """The supervisor runs for years."""
    count = len(os.listdir(f"/proc/{running.process.pid}/fd"))
    for who in (WORKER, "control", WORKER, "control"):
        before = running.pid(who)
        os.kill(before, signal.SIGKILL)
        wait_until(functools.partial(has_another, running, who, before))
    running.order("keep", "[1]")
    wait_until(lambda: running.journal("kept"))
    # One more than at the start: the rules that were kept.
    wait_until(lambda: len(os.listdir(f"/proc/{running.process.pid}/fd")) == count + 1)
    assert len(channels(running)) == 1 + 2 + 2


def has_another(made: SupervisorProcess, who: str, before: int) -> bool:
    """Whether a successor runs, and control is connected to the worker."""
    return made.pid(who) != before and channels(made)[-1][0] == made.pid(WORKER)


def test_a_full_standard_error_delays_nothing(tmp_path: Path) -> None:
    """A full pipe costs lines, not the daemon."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        os.set_blocking(writer, True)
        with supervisor_process(tmp_path, stderr=writer) as made:
            wait_until(lambda: made.messages("begin"), 20)
            made.order("exit", "1")
            wait_until(lambda: len(made.messages("begin")) == 2)
            assert made.end() == 0
    finally:
        os.close(reader)
        os.close(writer)
