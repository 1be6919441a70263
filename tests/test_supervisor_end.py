"""What the supervisor keeps for the next start, and its shutdown, with fake children."""

import functools
import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
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
from tests.topology.rights import missing

from mcr.daemon.supervisor.supervisor import _DRAIN_S
from mcr.protocol.constants import REFUSED_START


@pytest.fixture
def running(tmp_path: Path) -> Iterator[SupervisorProcess]:
    """A daemon with one worker, which is ready."""
    with supervisor_process(tmp_path) as made:
        yield made.until_ready()


def has_begun_again(made: SupervisorProcess, times: int) -> bool:
    """Whether control got its initial messages more often than this."""
    return len(made.messages("begin")) > times


def test_sigterm_drains_in_order(running: SupervisorProcess) -> None:
    """Control reports first, then the workers exit; nothing is left."""
    pids = [running.pid(WORKER), running.pid("control")]
    assert running.end() == 0
    order = [(entry["who"], entry["what"]) for entry in running.journal()][-2:]
    assert order == [("control", "told"), (WORKER, "supervisor channel ended")]
    assert running.messages("drain")
    assert not any(map(is_running, pids))
    assert not running.path.exists()
    assert not Path(f"{running.path}.lock").exists()
    assert (running.directory / "forgotten").exists()


def test_a_client_can_end_the_daemon(running: SupervisorProcess) -> None:
    """Control passes the request on, and drains as after a signal."""
    running.order("raw", b"S".hex())
    assert running.process.wait(20) == 0
    assert running.messages("drain")


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """It does not wait for a control that does not drain."""
    with supervisor_process(tmp_path, mode="stubborn") as made:
        made.until_ready()
        made.process.send_signal(signal.SIGTERM)
        wait_until(lambda: made.messages("drain"))
        began = time.monotonic()
        assert made.end(signal.SIGINT) == 1
        assert time.monotonic() - began < SOON_S
        assert (
            "warning: supervisor: second request to shut down: exiting without a report"
            in made.said()
        )


def test_draining_has_a_time_limit(tmp_path: Path) -> None:
    """Ten seconds, here two; then the daemon ends without a report and with exit code 1."""
    assert _DRAIN_S == 10
    with supervisor_process(tmp_path, mode="stubborn", drain_s=2) as made:
        made.until_ready()
        began = time.monotonic()
        assert made.end() == 1
        assert 2 <= time.monotonic() - began < 5
        assert "warning: supervisor: control did not drain within 2 s" in made.said()


def test_a_control_that_dies_instead_of_draining_is_logged(tmp_path: Path) -> None:
    """There is no report, so the exit code is 1."""
    with supervisor_process(tmp_path, mode="stubborn") as made:
        made.until_ready()
        made.process.send_signal(signal.SIGTERM)
        wait_until(lambda: made.messages("drain"))
        os.kill(made.pid("control"), signal.SIGKILL)
        assert made.process.wait(10) == 1
        assert "warning: supervisor: control exited before it had drained" in made.said()


def test_a_shutdown_during_the_start_is_clean(tmp_path: Path) -> None:
    """Nothing was relayed that a report could contain."""
    with supervisor_process(tmp_path, mode="silent") as made:
        wait_until(lambda: made.messages("begin"))
        assert made.end() == 0


def test_a_child_that_cannot_start_ends_the_daemon(tmp_path: Path) -> None:
    """After five attempts, with the reason; the socket is removed."""
    (tmp_path / "crash-0").write_text("3")
    with supervisor_process(tmp_path, mode="silent") as made:
        assert made.process.wait(20) == 1
        assert "mcr: worker 0 died 5 times: ended with code 3" in made.said()
        assert not made.path.exists()


def test_refused_rules_are_not_retried(tmp_path: Path) -> None:
    """The user has to correct them: the daemon ends with the first control."""
    (tmp_path / "crash-control").write_text(str(REFUSED_START))
    with supervisor_process(tmp_path, mode="silent") as made:
        assert made.process.wait(20) == 1
        assert "mcr: control does not start: the initial rules are refused" in made.said()
        assert "restarting in" not in made.said()
        assert not made.path.exists()


def test_rules_outlive_control(running: SupervisorProcess) -> None:
    """Each successor gets the newest rule set, from its first byte and marked as in use."""
    assert [message["in_use"] for message in running.messages("restore")] == [False]
    for text in ("[1]", "[1,2]"):
        running.order("keep", text)
    wait_until(lambda: len(running.journal("kept")) == 2)
    for _ in range(2):
        count = len(running.messages("begin"))
        os.kill(running.pid("control"), signal.SIGKILL)
        wait_until(functools.partial(has_begun_again, running, count))
        told = running.messages("restore")[-1]
        assert (told["content"], told["in_use"]) == ("[1,2]", True)


def test_a_state_file_that_can_never_be_written_is_refused(tmp_path: Path) -> None:
    """At the start, when the user can still read the error."""
    with supervisor_process(tmp_path, state="/proc/sys/state") as made:
        assert made.process.wait(20) == 1
        assert "mcr: --state: files cannot be written in /proc/sys\n" in made.said()


def test_the_state_file_survives_the_daemon(tmp_path: Path) -> None:
    """The next start reads it; only its owner can."""
    state = tmp_path / "state"
    with supervisor_process(tmp_path / "a", state=str(state)) as made:
        made.until_ready()
        assert not state.exists()
        made.order("keep", "[1,2]")
        wait_until(lambda: made.journal("kept"))
        assert made.journal("kept")[0]["answer"] == 0
        assert state.read_text() == "[1,2]"
        assert stat.S_IMODE(state.stat().st_mode) == 0o600
        made.process.kill()
    with supervisor_process(tmp_path / "b", state=str(state)) as made:
        made.until_ready()
        told = made.messages("restore")[0]
        assert (told["content"], told["in_use"]) == ("[1,2]", False)
        assert ", 2 rules" in made.said()
        assert made.end() == 0


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_full_disk_is_logged(tmp_path: Path) -> None:
    """The rules are kept in memory, and the old file stays, without a partial new one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "mcrtest", str(disk)], check=True)
    try:
        with supervisor_process(tmp_path / "a", state=str(disk / "state")) as made:
            made.until_ready()
            made.order("keep", "[1]")
            wait_until(lambda: made.journal("kept"))
            (disk / "ballast").write_bytes(b"x" * 40000)
            made.order("keep", json.dumps(["y" * 50000]).replace(" ", ""))
            wait_until(lambda: len(made.journal("kept")) == 2)
            assert [entry["answer"] for entry in made.journal("kept")] == [0, 1]
            (note,) = wait_until(lambda: made.messages("note"))
            assert note["text"].endswith("No space left on device; the rules stay in memory")
            assert (disk / "state").read_text() == "[1]"
            assert {entry.name for entry in disk.iterdir()} == {"state", "ballast"}
            (disk / "ballast").unlink()
            made.order("keep", "[2]")
            wait_until(lambda: len(made.journal("kept")) == 3)
            assert (disk / "state").read_text() == "[2]"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_configuration_is_read_again_on_sighup(tmp_path: Path) -> None:
    """First if there are no kept rules; then the new bytes; a missing file changes nothing."""
    config = tmp_path / "rules.json"
    config.write_text("[1]")
    with supervisor_process(tmp_path / "a", config=str(config)) as made:
        made.until_ready()
        assert contents(made) == ["[1]"]
        config.write_text("[1,2]")
        (tmp_path / "conf.d").mkdir()
        (tmp_path / "conf.d" / "a.json").write_text("[7]")
        made.process.send_signal(signal.SIGHUP)
        wait_until(lambda: contents(made) == ["[1]", "[1,2]"])
        made.order("load", "conf.d/*.json")
        (include,) = wait_until(lambda: made.messages("config")[2:])
        assert include["include"] == ["conf.d/*.json"]
        assert contents(made)[2:] == ["[1,2][7]"]
        config.unlink()
        made.process.send_signal(signal.SIGHUP)
        last = wait_until(lambda: made.messages("config")[3:])[0]
        wanted = f"{config} cannot be read: No such file or directory; the rules stay as they are"
        assert (last["fault"], last["content"]) == (wanted, None)
        made.order("keep", "[5]")
        os.kill(made.pid("control"), signal.SIGKILL)
        wait_until(lambda: len(made.messages("begin")) == 2)
        assert made.messages("restore")[-1]["content"] == "[5]"
        assert len(made.messages("config")) == 4
        made.order("load", "../*.json")
        wait_until(lambda: "requested an invalid configuration" in made.said())


def contents(made: SupervisorProcess) -> list[str]:
    """Those of the files of each configuration that control got."""
    return [message["content"] for message in made.messages("config")]


def test_without_a_configuration_sighup_resolves_host_names(running: SupervisorProcess) -> None:
    """Control resolves them again."""
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: running.messages("hosts"))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_signals_during_the_shutdown_kill_no_daemon(
    running: SupervisorProcess, number: signal.Signals
) -> None:
    """They are sent without a pause until it has exited."""
    running.process.send_signal(signal.SIGTERM)
    while running.process.poll() is None:
        running.process.send_signal(number)
    # Being told to end twice is an end with 1; the second time may come too late to be heard.
    assert running.process.returncode in ({0} if number == signal.SIGHUP else {0, 1})


@pytest.mark.parametrize(
    ("name", "reason"),
    [("none", "No such file or directory"), ("huge", "it is larger than 67108864 bytes")],
)
def test_a_configuration_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, reason: str
) -> None:
    """Before any process is started."""
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate((64 << 20) + 1)
    with supervisor_process(tmp_path, config=str(tmp_path / name)) as made:
        assert made.process.wait(20) == 1
        assert f"mcr: --config: {tmp_path}/{name} cannot be read: {reason}" in made.said()
        assert not made.journal()
