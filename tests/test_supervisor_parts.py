"""The supervisor's parts: backoff, watchdog, messages, children, log, privileges."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.deadline import wait_until

from mcr.daemon.account import Account, check_may_become
from mcr.daemon.supervisor import DaemonSettings, capabilities, choose_ingress
from mcr.daemon.supervisor.argv import (
    ControlDescriptors,
    WorkerDescriptors,
    control_command,
    supervisor_command,
    worker_command,
)
from mcr.daemon.supervisor.backoff import (
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    QUIET_S,
    Backoff,
)
from mcr.daemon.supervisor.child import Child, cause_of
from mcr.daemon.supervisor.log import StderrLog
from mcr.daemon.supervisor.watchdog import (
    DISCONNECT_S,
    LONGEST_TICK_S,
    START_S,
    AwakeClock,
    Watchdog,
)
from mcr.errors import RightsError
from mcr.protocol.log_spec import LogSpec

OFF = {"log_format": "auto", "log_stats": False, "flows": False, "offload": "off", "expect": None}
SETTINGS = DaemonSettings(
    socket=Path("/run/x.sock"), ingress="udp", workers=2, buffer_bytes=1 << 20
)


class TestBackoff:
    """When a process that died is restarted."""

    def test_delays_double_to_a_limit(self) -> None:
        """0, then 250 ms doubling to 16 s, while each process dies at once."""
        backoff, now_s, delays = Backoff(), 100.0, []
        for _ in range(10):
            delays.append(backoff.died(now_s))
            now_s += delays[-1] + 0.1
        assert delays == [0, 0.25, 0.5, 1, 2, 4, 8, 16, 16, 16]

    def test_a_quiet_minute_resets_the_delay(self) -> None:
        """A minute of running, not of waiting."""
        backoff = Backoff()
        assert [backoff.died(0), backoff.died(1), backoff.died(2)] == [0, 0.25, 0.5]
        assert backoff.died(2.5 + QUIET_S - 0.01) == 1
        assert backoff.died(2.5 + 2 * QUIET_S + 1) == 0

    @given(st.lists(st.floats(0, 200), max_size=50))
    def test_any_sequence_of_deaths(self, lives_s: list[float]) -> None:
        """A delay is 0 exactly after a quiet minute, else in bounds, and never falls in between."""
        backoff, now_s, before_s = Backoff(), 0.0, None
        for life_s in lives_s:
            now_s += life_s
            started_s, now = now_s - life_s, now_s
            delay_s = backoff.died(now)
            if before_s is None or now - started_s >= QUIET_S:
                assert delay_s == 0
            else:
                assert max(FIRST_DELAY_S, before_s) <= delay_s <= LONGEST_DELAY_S
            before_s, now_s = delay_s, now + delay_s


class TestWatchdog:
    """Time limits, in seconds during which the supervisor was awake."""

    def test_silence_is_noticed(self) -> None:
        """Since the last heartbeat; the first may take longer."""
        watchdog = Watchdog(3, 10)
        assert watchdog.fault(10 + START_S - 0.1) is None
        assert watchdog.fault(10 + START_S) == "did not answer for 30 s"
        watchdog.record_heartbeat(50)
        assert watchdog.fault(52.9) is None
        assert watchdog.fault(53) == "did not answer for 3 s"

    def test_a_closed_channel_has_a_time_limit(self) -> None:
        """A second, however many heartbeats arrive."""
        watchdog = Watchdog(3, 0)
        watchdog.record_disconnect(1)
        watchdog.record_heartbeat(1.5)
        watchdog.record_disconnect(1.5)
        assert watchdog.fault(1 + DISCONNECT_S - 0.1) is None
        assert watchdog.fault(1 + DISCONNECT_S) == "closed its channel to the supervisor"

    @given(st.lists(st.floats(0, 1e6), max_size=50))
    def test_a_long_iteration_counts_up_to_a_limit(self, steps_s: list[float]) -> None:
        """Short ones count as they are; awake time never decreases."""
        clock, now_s, before_s = AwakeClock(1000), 1000.0, 0.0
        for step_s in steps_s:
            passed_s = now_s + step_s - now_s
            now_s += step_s
            awake_s = clock.tick(now_s)
            assert awake_s - before_s == pytest.approx(min(passed_s, LONGEST_TICK_S))
            before_s = awake_s

    def test_a_clock_that_goes_back_counts_nothing(self) -> None:
        """It should not, but it must not kill a process."""
        assert AwakeClock(10).tick(9) == 0


class TestLog:
    """The supervisor's log."""

    @pytest.fixture
    def pipe(self) -> Iterator[tuple[int, int]]:
        """A pipe as standard error."""
        ends = os.pipe()
        yield ends
        for end in ends:
            os.close(end)

    def test_levels_and_priorities(self, pipe: tuple[int, int]) -> None:
        """Less severe records are omitted; the journal gets a priority."""
        status = os.fstat(pipe[1])
        journal = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        for environment in ({}, {"JOURNAL_STREAM": "1:2"}, journal):
            log = StderrLog(LogSpec.parse("warning"), pipe[1], environment)
            log.log("info", "less")
            log.log("warning", "bad\nthing")
            log.write("always")
        plain = b"warning: supervisor: bad thing\nalways\n"
        assert os.read(pipe[0], 1000) == 2 * plain + b"<4>supervisor: bad thing\n<6>always\n"

    def test_unread_lines_are_counted(self, pipe: tuple[int, int]) -> None:
        """Writing never blocks, and no line is truncated by it."""
        log = StderrLog(LogSpec.parse("info"), pipe[1], {})
        for _ in range(100):
            log.write("x" * 5000)
        found = b""
        os.set_blocking(pipe[0], False)
        with contextlib.suppress(BlockingIOError):
            while True:
                found += os.read(pipe[0], 65536)
        assert {len(line) for line in found.splitlines()} == {4095}
        log.write("again")
        missed = 100 - found.count(b"\n")
        assert os.read(pipe[0], 1000) == b"again (%d earlier lines dropped)\n" % missed


class TestChildren:
    """Child processes and their command lines."""

    @pytest.mark.parametrize(
        ("code", "wanted"),
        [
            (0, "ended with code 0"),
            (70, "ended with code 70"),
            (-9, "killed by SIGKILL"),
            (-11, "killed by SIGSEGV"),
            (-40, "killed by signal 40"),
        ],
    )
    def test_causes(self, code: int, wanted: str) -> None:
        """A code, or the name of a signal."""
        assert cause_of(code) == wanted

    def test_a_reason_applies_only_to_a_killed_process(self) -> None:
        """One that had exited before keeps its own cause; no process stays a zombie."""
        for code, wanted in (
            ("import time; time.sleep(60)", "my reason"),
            ("raise SystemExit(4)", "code 4"),
        ):
            child = Child([sys.executable, "-S", "-c", code], [])
            if "Exit" in code:
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            child.kill("my reason")
            child.kill("another")
            assert wanted in str(wait_until(child.reap))
            child.close()
            assert not Path(f"/proc/{child.pid}").exists()

    def test_ctrl_c_does_not_reach_children(self) -> None:
        """They have their own process group."""
        child = Child([sys.executable, "-S", "-c", "import time; time.sleep(60)"], [])
        assert os.getpgid(child.pid) == child.pid
        child.kill()
        assert wait_until(child.reap) == "killed by SIGKILL"
        child.close()

    def test_a_missing_program(self) -> None:
        """An error at once, and no descriptor stays open."""
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(FileNotFoundError):
            Child(["/no/such/program"], [])
        assert len(os.listdir("/proc/self/fd")) == before

    def test_the_workers_command(self) -> None:
        """It loads the native module by its path, without the package."""
        ends = WorkerDescriptors(supervisor_channel=5, broker=6, page=7)
        command = worker_command(SETTINGS, 1, ends)
        assert command[:4] == [sys.executable, "-I", "-S", "-c"]
        assert json.loads(command[6]) == {
            "number": 1,
            "workers": 2,
            "cpu": None,
            "buffer_bytes": 1 << 20,
            "verify_checksums": True,
            "ingress": "udp",
            "egress": "auto",
            "offload": "off",
            "uid": None,
            "gid": None,
            "supervisor": os.getpid(),
            "supervisor_channel": 5,
            "broker": 6,
            "page": 7,
        } | {"flows": False, "latency": False}
        probe = command[4].replace(
            "sys.exit(_native.run_worker(sys.argv[2]))",
            "print(_native.interfaces()[0].name, *(m for m in sys.modules if m[:3] == 'mcr'),"
            " signal.getsignal(signal.SIGTERM).name)",
        )
        done = subprocess.run(
            [*command[:4], probe, command[5]], capture_output=True, text=True, check=True
        )
        assert done.stdout == "lo mcr mcr.errors mcr._native SIG_IGN\n"

    def test_controls_command(self) -> None:
        """It has the users to serve and the user to become."""
        inherited = ControlDescriptors(5, 6, 7, [8, 9])
        command = control_command(SETTINGS, 12, Path("/run/x.sock"), inherited)
        assert command[:5] == [sys.executable, "-E", "-P", "-m", "mcr.daemon.control"]
        assert json.loads(command[5]) == {
            "supervisor": os.getpid(),
            "supervisor_channel": 5,
            "listener": 6,
            "numbers": 7,
            "pages": [8, 9],
            "socket": "/run/x.sock",
            "uid": None,
            "gid": None,
            "starter_uid": os.getuid(),
            "observers": None,
            "socket_gid": 12,
            "state": None,
            "config": None,
            "keep_going": False,
            "options": {},
        } | {"workers": 2, "ingress": "udp", "hosts": "first", "log_level": "info", **OFF}

    def test_the_supervisors_command(self) -> None:
        """It has all settings."""
        settings = replace(
            SETTINGS, state=Path("/a b"), config=Path("/\u00e4"), cpus=(1, 0), group=3
        )
        settings = replace(settings, account=Account("a", 1, 2))
        command = supervisor_command(settings)
        assert command[:5] == [sys.executable, "-E", "-P", "-m", "mcr.daemon.supervisor"]
        assert DaemonSettings.from_text(command[5]) == settings

    def test_children_become_the_account(self) -> None:
        """Unless they run as that user already."""
        for account, wanted in (
            (Account("other", 12345, 54321), (12345, 54321)),
            (Account("same", os.geteuid(), os.getegid()), (None, None)),
        ):
            settings = DaemonSettings(Path("/x"), "udp", 1, 1 << 20, account=account)
            arguments = json.loads(
                control_command(settings, 0, settings.socket, ControlDescriptors(3, 4, 5, [6]))[5]
            )
            assert (arguments["uid"], arguments["gid"]) == wanted


class TestRights:
    """The checks before the start."""

    def test_no_packet_sockets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`auto` uses udp and names what packet needs; `packet` is refused."""

        def refuse(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr("mcr.daemon.supervisor.capabilities.socket.socket", refuse)
        ingress, notice = choose_ingress("auto")
        assert ingress == "udp"
        assert notice is not None
        assert notice.startswith("CAP_NET_RAW is missing: the ingress is udp")
        assert choose_ingress("udp") == ("udp", None)
        with pytest.raises(RightsError, match="CAP_NET_RAW is missing: run as root, or use"):
            choose_ingress("packet")

    def test_offload_needs_three_capabilities(self) -> None:
        """`require` is refused without one; `auto` then is off, with a notice."""
        lacking = "import sys; from mcr.daemon.supervisor.capabilities import choose_offload\n"
        lacking += "from mcr import _native; _native.shrink_supervisor(False, False)\n"
        lacking += "print(choose_offload(sys.argv[1]))"

        def chosen(requested: str) -> str:
            command = [sys.executable, "-c", lacking, requested]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            return (run.stdout or run.stderr).splitlines()[-1]

        names = "CAP_PERFMON and CAP_BPF are missing"
        if os.geteuid() != 0:
            names = "CAP_NET_ADMIN and CAP_PERFMON and CAP_BPF are missing"
        assert chosen("off") == "('off', None)"
        assert chosen("auto").startswith(f"('off', '{names}: offload is off")
        assert chosen("require").endswith(f"{names}: run as root, grant them, or use --offload off")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
    @pytest.mark.parametrize("options", [[], ["--user", "nobody"], ["--config", "mcr.toml"]])
    def test_root_that_cannot_become_another_user(self, tmp_path: Path, options: list[str]) -> None:
        """As in a container that drops all capabilities: refused before anything is started."""
        (tmp_path / "mcr.toml").write_text("[daemon]\nworkers = 1\n")
        lacking = ["setpriv", "--bounding-set", "-setuid,-setgid", sys.executable, "-m", "mcr"]
        command = [*lacking, "serve", "--socket", "mcr.sock", *options]
        run = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=30, cwd=tmp_path
        )
        assert (run.returncode, run.stdout) == (1, "")
        assert run.stderr == (
            "mcr: CAP_SETUID and CAP_SETGID are missing: a daemon that is started as root needs"
            " them to become the user nobody; grant them, or start it as another user\n"
        )

    def test_only_a_change_of_the_user_needs_rights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Root that stays root, and others, start without them."""
        lacks = "mcr.daemon.account.missing_capabilities"
        monkeypatch.setattr(lacks, lambda needed: ["CAP_SETGID"])
        check_may_become(None)
        check_may_become(Account("same", os.geteuid(), os.getegid()))
        with pytest.raises(RightsError, match=r"^CAP_SETGID is missing: a daemon .* needs it to"):
            check_may_become(Account("other", os.geteuid() + 1, 1))

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root has a right to any file")
    def test_paths_that_root_reaches_by_capabilities_only(self, tmp_path: Path) -> None:
        """A directory of another user; a child tries it, and this process keeps its privileges."""

        def become_like_others(any_file: bool, offload: bool) -> None:
            assert not any_file
            assert not offload
            os.setresuid(65534, 65534, 65534)

        closed = tmp_path / "closed"
        closed.mkdir(0o700)
        found = capabilities.find_unreachable_path(
            replace(SETTINGS, state=closed / "state"), become_like_others
        )
        assert found is not None
        assert os.geteuid() == 0
        assert capabilities.find_unreachable_path(SETTINGS, lambda *_: None) is None

    def test_descriptors(self) -> None:
        """The soft limit is raised at least to the hard one."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        try:
            allowed = capabilities.raise_descriptor_limit()
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == allowed >= before[0]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_importing_changes_no_signal_handler() -> None:
    """Programs may import the supervisor."""
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
