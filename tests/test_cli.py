"""The command line: valid arguments, and one clear message for each invalid one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fake_core import FakeCore

from mcr import Relay
from mcr.cli import main
from mcr.daemon.account import Account
from mcr.daemon.supervisor import DaemonSettings
from mcr.errors import RightsError

GOOD = "239.1.1.1%lo:5001 to 127.0.0.1:7001"


@pytest.fixture(autouse=True)
def fake_core(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test here opens a socket or gives up the rights of the test run."""
    monkeypatch.setattr("mcr.relay.active_rules.RelayCore", FakeCore)
    monkeypatch.setattr(FakeCore, "made", [])
    monkeypatch.setattr("mcr.cli.relay.drop_privileges", lambda uid, gid: None)
    monkeypatch.setattr("mcr.cli.relay._THREADS_END_S", 0)  # those of the test run stay
    yield
    for core in FakeCore.made:
        assert core.stopped.is_set(), "a command left a relay open"


def _relay(*arguments: str) -> int:
    return main(["relay", "--duration", "0.05", *arguments])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # The rule text.
        (["nonsense"], "input"),
        (["239.1.1.1%lo:0 to 127.0.0.1:7001"], "port"),
        (["239.1.1.1%lo:70000 to 127.0.0.1:7001"], "70000"),
        (["239.1.1.1%lo:5001 to 127.0.0.1:70000"], "output 1, port"),
        (["239.1.1.1%lo:5001"], "the shell read '>' as a redirection; write 'to'"),
        (["239.1.1.1%lo:5001", "127.0.0.1:1"], "no 'to' between input and outputs"),
        (["239.1.1.1%lo:5001", "TO", "127.0.0.1:1"], "no 'to' between input and outputs"),
        (["239.1.1.1%lo:5001", "-"], "the shell read '>' as a redirection; write 'to'"),
        (["239.1.1.1%lo:5001-"], "the shell read '>' as a redirection; write 'to'"),
        ([f"{GOOD},ttl=256"], "output 1, ttl"),
        ([f"{GOOD},ttl=0"], "output 1, ttl"),
        ([f"{GOOD},dscp=64"], "output 1, dscp"),
        ([f"{GOOD},tll=3"], "did you mean 'ttl'?"),
        (["ff01::1%lo:5001 to 127.0.0.1:7001"], "ff01::"),
        # The host.
        (["239.1.1.1:5001 to 127.0.0.1:7001"], "interface"),
        # Rules against each other.
        ([GOOD, GOOD], "rule 2"),
        ([f"{GOOD} 127.0.0.1:7001"], "output 2"),
        (["239.1.1.1%lo:5001 to 239.1.1.1%lo:5001"], "output 1"),
        (
            ["239.1.1.1%lo:5001 to 239.1.1.2%lo:5001", "239.1.1.2%lo:5001 to 239.1.1.1%lo:5001"],
            "loop",
        ),
        (
            ["239.1.1.1%lo:5001", "to", "127.0.0.1:1", "239.1.1.1%lo:5002", "to", "127.0.0.1:2"],
            "to",
        ),
        # The options.
        ([GOOD, "--ingress", "pcap"], "'--ingress': 'pcap' is not one of 'auto', 'packet', 'udp'"),
        ([GOOD, "--egress", "raw"], "'--egress': 'raw' is not one of 'auto', 'socket', 'xdp'"),
        ([GOOD, "--workers", "0"], "'--workers': 0 is out of range: 1 to 256"),
        ([GOOD, "--workers", "257"], "'--workers': 257 is out of range: 1 to 256"),
        ([GOOD, "--workers", "1.5"], "'--workers': '1.5' is not a whole number"),
        ([GOOD, "--workers", "two"], "'--workers': 'two' is not a whole number"),
        ([GOOD, "--cpus", "0,x"], "'--cpus': '0,x' is not a list of CPUs; write one such as 0,2-3"),
        ([GOOD, "--cpus", "999999"], "'--cpus': this process may not use CPU 999999; it may use "),
        (
            [GOOD, "--cpus", "0", "--workers", "2"],
            "'--cpus': 2 workers need 2 CPUs; the list has 1",
        ),
        ([GOOD, "--duration", "5s"], "'--duration': '5s' is not a number"),
        (
            [GOOD, "--user", "no-such-user"],
            "'--user': there is no user 'no-such-user' on",
        ),
        ([GOOD, "--jsn"], "--json"),
        ([GOOD, "--user"], "--user"),
        ([], "'RULE'; see mcr relay --help"),
    ],
)
def test_wrong_usage_is_named_in_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line on standard error that names the field, nothing on standard output."""
    assert _relay(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err
    assert err.startswith("mcr: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("text", ["0", "-1", "x", "nan", "inf", ""])
def test_a_duration_is_a_number_above_zero(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Not zero, a negative number or text."""
    assert main(["relay", GOOD, "--duration", text]) == 2
    assert capsys.readouterr().err.startswith("mcr: Invalid value for '--duration': ")


SERVE_MISTAKES = [
    (["--workers", "257"], "'--workers': 257 is out of range: 1 to 256"),
    (["--workers", "two"], "'--workers': 'two' is not a whole number"),
    (["--cpus", "0,0"], "'--cpus': CPU 0 is listed twice"),
    (["--cpus", "0", "--workers", "2"], "'--cpus': 2 workers need 2 CPUs; the list has 1"),
    (["--ingress", "pcap"], "'--ingress': 'pcap' is not one of 'auto', 'packet', 'udp'"),
    (["--egress", "raw"], "'--egress': 'raw' is not one of 'auto', 'socket', 'xdp'"),
    (["--offload", "on"], "'--offload': 'on' is not one of 'off', 'auto', 'require'"),
    (["--offload", "require", "--workers", "2"], "'--offload': require needs --workers 1; "),
    (["--hosts", "some"], "'--hosts': 'some' is not one of 'first', 'all'"),
    (["--hosts", "frist"], "'first', 'all'; did you mean 'first'? see mcr serve --help"),
    (["--log-level", "loud"], "'loud' is not one of 'trace', 'debug', 'info', 'notice'"),
    (["--log-level", "info,rule=debug"], "'rule' is not one of the facilities 'supervisor', "),
    (["--log-level", "info,rule=debug"], "; did you mean 'rules'? see mcr serve --help"),
    (["--log-format", "xml"], "'--log-format': 'xml' is not one of 'auto', 'text', 'json'"),
    (["--user", "no-such-user"], "'--user': there is no user 'no-such-user' on"),
    (["--socket", "dir/"], "'dir/' is a directory; name the socket's file"),
    (["--socket", ""], "'' is a directory; name the socket's file"),
    (["--config", "/no/such"], "'--config': file '/no/such' does not exist"),
    (["--config", "/tmp"], "'--config': file '/tmp' is a directory"),
    (["--state", "/no/such/state"], "'--state': there is no directory /no/such"),
    (["--state", "/tmp"], "'--state': /tmp is not a regular file"),
    (["--stat", "x"], "--state"),
    (["239.1.1.1%lo:5001 to 127.0.0.1:7001"], "see mcr serve --help"),
]


@pytest.mark.parametrize(("arguments", "expected"), SERVE_MISTAKES)
def test_serve_names_invalid_options(
    arguments: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line each, before anything is opened or given up."""
    monkeypatch.setattr("mcr.cli.serve.become_supervisor", _never)
    assert main(["serve", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mcr: ")
    assert expected in err
    assert err.count("\n") == 1


def _never(setup: DaemonSettings) -> None:
    raise AssertionError(setup)


@pytest.mark.parametrize(
    ("options", "variable", "level"),
    [([], "rules=debug", "rules=debug"), (["--log-level", "error"], "debug", "error")],
)
def test_the_variable_with_log_levels(
    options: list[str], variable: str, level: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The command line wins over it, and it wins over the configuration."""
    made: list[DaemonSettings] = []
    monkeypatch.setattr("mcr.cli.serve.become_supervisor", made.append)
    monkeypatch.setenv("MCR_LOG", variable)
    config = tmp_path / "mcr.toml"
    config.write_text('[daemon]\nlog_level = "warning"\nlog_format = "json"\n')
    tmp_path.chmod(0o755)
    assert main(["serve", "--ingress", "udp", "--config", str(config), *options]) == 0
    assert (made[0].log_level, made[0].log_format) == (level, "json")


def test_serve_passes_all_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even through the command line of the supervisor."""
    made: list[DaemonSettings] = []
    monkeypatch.setattr("mcr.cli.serve.become_supervisor", made.append)
    monkeypatch.chdir("/tmp")
    user = ["--user", "nobody"] if os.geteuid() == 0 else []
    options = ["--socket", "x.sock", "--state", "state", "--ingress", "udp", "--cpus", "0"]
    options += ["--accept-bad-checksums", "--egress", "socket", "--offload", "auto"]
    lacks = "mcr.daemon.supervisor.capabilities.missing_capabilities"
    monkeypatch.setattr(lacks, lambda needed: [])
    assert main(["serve", *options, "--hosts", "all", "--log-level", "debug", *user]) == 0
    (setup,) = made
    assert DaemonSettings.from_text(setup.to_text()) == setup
    assert setup.socket == Path("/tmp/x.sock")
    assert setup.state == Path("/tmp/state")
    assert (setup.egress, setup.offload) == ("socket", "auto")
    assert (setup.ingress, setup.cpus, setup.workers) == ("udp", (0,), 1)
    assert not setup.verify_checksums
    assert (setup.hosts, setup.log_level, setup.config) == ("all", "debug", None)
    if user:
        assert setup.account == Account("nobody", 65534, 65534)
        assert setup.group == 65534


def test_serve_gives_each_of_several_workers_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are enough; the kernel places a single one. The group of nobody is not used."""
    made: list[DaemonSettings] = []
    monkeypatch.setattr("mcr.cli.serve.become_supervisor", made.append)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3, 1, 2})
    for count in ("1", "2", "3", "4"):
        assert main(["serve", "--ingress", "udp", "--workers", count]) == 0
    assert [setup.cpus for setup in made] == [(), (1, 2), (1, 2, 3), ()]
    assert {setup.group for setup in made} == {None}


def test_all_problems_of_rules_are_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """So that the user can correct all rules together."""
    bad = ["239.1.1.1%lo:0 to 127.0.0.1:7001,ttl=999", "239.1.1.1%lo:1 to 127.0.0.1:70000"]
    assert main(["relay", *bad]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        "rule 1, input, port",
        "rule 1, output 1, ttl",
        "rule 2, output 1, port",
    ]


@pytest.mark.alone
def test_a_hangup_during_the_start_is_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is handled when the relay runs."""
    taken: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: taken.append(number))
    opened = Relay.open

    def open_slowly(relay: Relay, *, rights_end: bool = False) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        opened(relay, rights_end=rights_end)

    monkeypatch.setattr(Relay, "open", open_slowly)
    try:
        assert _relay(GOOD) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not taken


@pytest.mark.parametrize(
    "arguments",
    [
        [GOOD],
        GOOD.split(),
        ["239.1.1.1%lo:5001", "->", "127.0.0.1:7001"],
        ["239.1.1.1%lo:5001 -> 127.0.0.1:7001"],
        ["239.1.1.1%lo:5001->127.0.0.1:7001"],
    ],
)
def test_a_rule_needs_no_quotes(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One rule may be spread over the arguments, with either arrow."""
    assert _relay(*arguments, "--json") == 0
    (rule,) = json.loads(capsys.readouterr().out)["rules"]
    assert rule["rule"] == GOOD


def test_each_quoted_argument_is_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """Several rules; `--json` prints one object, everything else goes to standard error."""
    other = "239.1.1.2%lo:5001,name=b to 127.0.0.1:7002 127.0.0.1:7003"
    assert _relay(GOOD, other, "--json", "--ingress", "udp", "--workers", "2") == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert [rule["name"] for rule in found["rules"]] == [None, "b"]
    assert found["interfaces"][0]["ingress"] == "udp"
    assert "ready: 2 rules, ingress udp" in err
    assert "warning: the receive buffer is small" in err
    assert FakeCore.made[0].workers == 2


def test_the_report_for_people_names_every_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--json` the report is text on standard output."""
    assert _relay(GOOD) == 0
    out = capsys.readouterr().out
    assert "127.0.0.1:7001: sent 0 of 0" in out
    assert "joined, no frame seen on lo" in out
    assert "balance broken" not in out


def test_a_relay_may_have_any_number_of_descriptors() -> None:
    """Also more than select(2) has: each output is one."""
    outputs = " ".join(f"127.0.0.1:{port}" for port in range(20_000, 21_100))
    rule = f"239.77.9.1%lo:5001 to {outputs}"
    command = [sys.executable, "-m", "mcr", "relay", rule, "--ingress", "udp", "--duration", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]


def test_an_engine_that_fails_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report is printed, then the reason; the exit code is 1."""
    monkeypatch.setattr(FakeCore, "start", lambda core: core.fail("the ring is gone"))
    assert main(["relay", GOOD]) == 1
    out, err = capsys.readouterr()
    assert "sent 0 of 0" in out
    assert err.endswith("mcr: the ring is gone\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_with_a_report(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are a regular end, not a failure."""
    monkeypatch.setattr(FakeCore, "start", lambda core: os.kill(os.getpid(), number))
    assert main(["relay", GOOD, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rules"]) == 1


def test_rights_are_dropped_between_opening_and_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sockets exist by then, and no frame has been read."""
    seen: list[tuple[int, int, int, bool]] = []
    account = Account("nobody", 65534, 65534)
    monkeypatch.setattr("mcr.cli.relay.target_account", lambda user: account)
    monkeypatch.setattr(
        "mcr.cli.relay.drop_privileges",
        lambda uid, gid: seen.append(
            (uid, gid, len(FakeCore.made[0].rules), FakeCore.made[0].started)
        ),
    )
    assert _relay(GOOD) == 0
    assert seen == [(65534, 65534, 1, False)]


def test_the_relay_never_runs_as_root(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits if rights cannot be dropped."""

    def refuse(uid: int, gid: int) -> None:
        raise RightsError(f"cannot become {uid}, {gid}")

    monkeypatch.setattr("mcr.cli.relay.target_account", lambda user: Account("nobody", 1, 1))
    monkeypatch.setattr("mcr.cli.relay.drop_privileges", refuse)
    assert _relay(GOOD) == 1
    wanted = "mcr: cannot become 1, 1; --user root keeps the rights of root\n"
    assert capsys.readouterr().err.endswith(wanted)
    assert not FakeCore.made[0].started


def _drop(account: str, before: str = "") -> dict[str, str]:
    """The status of a process (proc(5)) that has given up root as `mcr relay` does."""
    code = f"""
import ctypes, threading
from mcr.cli import relay
from mcr.daemon.account import target_account
{before}
relay._drop_root(target_account({account!r}))
print(open("/proc/self/status").read() + "Dumpable:\t" + str(ctypes.CDLL(None).prctl(3)))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert run.returncode == 0, run.stderr
    return dict(line.split(":\t", 1) for line in run.stdout.splitlines())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")
def test_nothing_is_left_of_root() -> None:
    """Like a worker: other user and group, no capability in any set, and no way to get one."""
    status = _drop("nobody")
    assert {*status["Uid"].split(), *status["Gid"].split()} == {"65534"}
    assert status["Groups"].strip() == ""
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert (status["NoNewPrivs"], status["Dumpable"]) == ("1", "0")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can stay root")
def test_root_that_stays_keeps_its_capabilities() -> None:
    """Only programs that it starts can gain nothing."""
    before = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    status = _drop("root")
    assert status["Uid"].split() == ["0"] * 4
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert [status[name] for name in names] == [before[name] for name in names]
    assert status["NoNewPrivs"] == "1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")
def test_threads_forbid_dropping() -> None:
    """An existing thread would keep its own rights."""
    thread = "threading.Thread(target=threading.Event().wait, daemon=True).start()"
    with pytest.raises(AssertionError, match=r"RightsError: .* once a process has several threads"):
        _drop("nobody", f"relay._THREADS_END_S = 0.01\n{thread}")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["strems"], "Did you mean 'streams'?"),
        (["--verison"], "--version"),
        ([], "Missing command"),
    ],
)
def test_a_mistyped_word_gets_a_suggestion(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """For commands and options."""
    assert main(arguments) == 2
    assert expected in capsys.readouterr().err


def test_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """The name and a number."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mcr 0.")


def test_the_module_is_the_command() -> None:
    """`python -m mcr` does what `mcr` does."""
    call = [sys.executable, "-m", "mcr", "--version"]
    answer = subprocess.run(call, capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("mcr ")
