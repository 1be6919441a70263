"""The commands for a daemon: their output as text and as JSON, and their exit codes."""

import io
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tests.support.deadline import wait_until
from tests.support.fake_supervisor import FakeSupervisor
from tests.support.line_proxy import LineProxy, answering, send_message
from tests.support.raw_client import RawClient

import mcr
from mcr import _native
from mcr.cli import main

A = "239.1.1.1%lo:5001,name=feed-a to 127.0.0.1:7001"
B = "239.1.1.2%lo:5001 to 239.2.0.2%lo:6001,ttl=8 127.0.0.1:7001"
ID_A, ID_B = mcr.Rule.parse(A).id, mcr.Rule.parse(B).id
SERVER = f"mcr {version('mcr-relay')}"
MCR = Path(sys.executable).with_name("mcr")
Capture = pytest.CaptureFixture[str]


class Command:
    """Runs commands with the daemon's socket and returns their output."""

    def __init__(self, path: Path, capsys: Capture) -> None:
        self._path = path
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command that ends with this exit code; return its output (only success has any)."""
        assert main([*arguments, "--socket", str(self._path)]) == code
        out, self.err = self._capsys.readouterr()
        assert not code or out == ""
        return out

    def json(self, *arguments: str) -> Any:  # noqa: ANN401 -- as the protocol has it
        """Run a command with --json."""
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def command(control: FakeSupervisor, capsys: Capture) -> Command:
    """Commands for the control process."""
    return Command(control.path, capsys)


@pytest.fixture
def proxied_command(proxy: LineProxy, capsys: Capture) -> Command:
    """Commands for the control process, through the proxy."""
    return Command(proxy.path, capsys)


def rules_of(control: FakeSupervisor) -> mcr.RuleList:
    """The rules of the control process."""
    with mcr.Client(control.path) as client:
        return client.rules()


def test_changes_of_rules(command: Command, control: FakeSupervisor, revision: int) -> None:
    """Added, listed, disabled, enabled, removed, each by another way to name a rule."""
    assert command("rule", "add", *A.split()) == (
        f"added {ID_A}: {A} (ttl 64): joined, no frame seen on lo\nrevision {revision + 1}\n"
    )
    added, unchanged, last = command("rule", "add", A, B).splitlines()
    assert added.startswith(f"added {ID_B}: {B} (ttl 8, 64)")
    assert (unchanged, last) == (f"unchanged {ID_A}", f"revision {revision + 2}")
    listed = command("rule", "list").splitlines()
    assert [line.split()[0] for line in listed] == ["id", ID_A, ID_B]
    assert listed[1].split()[1:] == [
        "feed-a",
        *A.split(),
        *["socket", "engine", "client", "yes", "joined,", "no", "frame", "seen", "on", "lo"],
    ]
    assert command("rule", "disable", "feed-a") == f"changed {ID_A}\nrevision {revision + 3}\n"
    assert "no       disabled" in command("rule", "list", "feed-a")
    assert command("rule", "enable", *A.split()) == f"changed {ID_A}\nrevision {revision + 4}\n"
    assert command("rule", "remove", B, ID_A, "--expected-revision", str(revision + 4)) == (
        f"removed {ID_B}\nremoved {ID_A}\nrevision {revision + 5}\n"
    )
    assert command("rule", "list") == "no rules; add one with mcr rule add\n"
    assert len(rules_of(control)) == 0


def test_the_daemon_knows_the_reasons(command: Command) -> None:
    """A client may be older than the daemon, and does not refuse a reason that it does not know."""
    command("capture", "--reason", "to_big", code=2)
    assert "reason: 'to_big' is not one of 'vlan', " in command.err
    assert command.err.endswith("; did you mean 'too_big'?\n")


def test_a_dry_run(command: Command, control: FakeSupervisor, revision: int) -> None:
    """The output says that nothing has changed, and nothing has."""
    done = command("rule", "add", A, "--disabled", "--dry-run")
    assert done.endswith(
        f"): not added (dry run)\nrevision {revision} (dry run: nothing has changed)\n"
    )
    assert (rules_of(control).rules, rules_of(control).revision) == ((), revision)


def test_rule_list_is_a_backup(command: Command, control: FakeSupervisor, tmp_path: Path) -> None:
    """`rule replace` restores its output, including disabled rules."""
    command("rule", "add", A, B)
    command("rule", "disable", "feed-a")
    kept = tmp_path / "rules.json"
    kept.write_text(json.dumps(command.json("rule", "list")))
    command("rule", "remove", ID_A, ID_B)
    assert f"added {ID_B}" in command("rule", "replace", "--file", str(kept))
    assert [(rule.id, rule.enabled) for rule in rules_of(control)] == [(ID_A, False), (ID_B, True)]


def test_rules_from_a_toml_file(command: Command, tmp_path: Path, control: FakeSupervisor) -> None:
    """As text, as an object, and with `enabled`."""
    file = tmp_path / "rules.toml"
    file.write_text(
        f'rules = ["{A}", {{rule = "{B}", enabled = false}}, {{input = {{address = "239.1.1.3",'
        ' port = "5001-5002", interface = "a=b"}, outputs = [{address = "127.0.0.1", port = 7}]}]\n'
    )
    done = command.json("rule", "replace", "--file", str(file))
    assert [each["enabled"] for each in done["added"]] == [True, False, True]
    assert [rule["input"]["interface"] for rule in control.workers[0].rules.values()] == [
        *["lo", "lo", "a=b"]
    ]
    assert command("rule", "replace", B).startswith(f"removed {ID_A}\n")


def test_rules_from_standard_input(
    command: Command, monkeypatch: pytest.MonkeyPatch, control: FakeSupervisor
) -> None:
    """From a pipe; input beyond the limit is not read."""
    text = io.TextIOWrapper(io.BytesIO(f'rules = ["{A}"]'.encode()))
    monkeypatch.setattr("sys.stdin", text)
    command("rule", "replace", "--file", "-")
    assert [rule.id for rule in rules_of(control)] == [ID_A]
    command("rule", "replace", "--file", "/dev/zero", code=2)
    assert "'--file': /dev/zero is larger than the 16777216 bytes that a daemon" in command.err


def test_warnings_go_to_standard_error(proxied_command: Command, proxy: LineProxy) -> None:
    """Those of a change, and the one about incomplete counters."""
    changed: dict[str, Any] = {"revision": 1, "dry_run": False, "warnings": ["mind\x1b[2J"]}
    changed |= {name: [] for name in ("added", "removed", "kept", "changed")}
    names = ("received", "matched", "wanted", "sent", "lost", "kernel_dropped_frames")
    totals = {**dict.fromkeys(names, 0), "dropped": {}}
    counted = {"interfaces": [], "rules": [], "revision": 1, "stale_workers": [2], "totals": totals}
    proxy.script = answering({"rules.add": changed, "stats": counted}.get)
    assert proxied_command("rule", "add", A) == "revision 1\n"
    assert proxied_command.err == "warning: mind\\x1b[2J\n"
    proxied_command("stats")
    assert proxied_command.err == (
        "warning: the counters of worker 2 could not be read; its last known counts are included\n"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"rules = [", "is neither TOML nor JSON"),
        (b"{", "is neither TOML nor JSON"),
        (b"\xff", "is not UTF-8 at byte 1"),
        (b'{"rules": ' + b"[" * 100_000, "is nested too deeply"),
        (b"", 'has no array of rules; write rules = ["A to B", "C to D"]'),
        (b"rules = [7]", ":1, rule 1: must be a string or a table, not 7"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_files_without_rules(
    content: bytes | None, expected: str, command: Command, tmp_path: Path
) -> None:
    """One line of error, and no request."""
    file = tmp_path / "rules"
    if content is not None:
        file.write_bytes(content)
    command("rule", "replace", "--file", str(file), code=2)
    assert command.err.startswith(f"mcr: Invalid value for '--file': {file}")
    assert expected in command.err
    assert command.err.count("\n") == 1


def test_stats(command: Command, control: FakeSupervisor, revision: int) -> None:
    """The totals first, then each interface, rule and output."""
    command("rule", "add", A, B)
    control.workers[0].counts = {ID_A: 7, ID_B: 3}
    lines = command("stats", "--details").splitlines()
    assert lines[0].startswith("interfaces: received 11, matched 10, kernel dropped 0 frames")
    assert lines[1].startswith(f"2 rules at revision {revision + 1}: sent 13")
    assert lines[3] == f"rule {ID_A} (feed-a): {A}"
    assert len(lines) == 10
    of_one = command("stats", ID_B).splitlines()
    assert of_one[0] == lines[0]
    assert of_one[1].startswith(f"1 rule at revision {revision + 1}: sent ")
    assert not any(ID_A in line for line in of_one)
    assert command.json("stats", ID_B)["rules"][0]["id"] == ID_B


def test_workers(command: Command, control: FakeSupervisor) -> None:
    """The state of each, and its last death."""
    command("stats")
    control.kill_worker(0, missed_frames=40)
    wait_until(lambda: command("stats") and "missed" in command("workers"))
    headings, worker = command("workers").splitlines()
    assert headings.split()[:4] == ["worker", "pid", "state", "engine"]
    assert worker.split()[:4] == ["0", str(control.workers[0].pid), "running", "io_uring"]
    assert re.search(r"killed by SIGKILL, out for \d+ ms, missed 40 frames$", worker)
    assert command.json("workers")["workers"][0]["deaths"] == 1


def test_interfaces(command: Command, proxied_command: Command, proxy: LineProxy) -> None:
    """The properties of each."""
    (known,) = (each for each in _native.interfaces() if each.name == "lo")
    (loopback,) = (
        each for each in command.json("interfaces")["interfaces"] if each["name"] == "lo"
    )
    assert (loopback["index"], loopback["mtu"]) == (known.index, known.mtu)
    assert loopback["addresses"] == [str(address) for address in known.addresses]
    flags = {"up": True, "carrier": True, "multicast": False, "loopback": True, "gro": True}
    told = {"name": "lo", "altnames": ["loop0"], "index": 1, "mtu": 65536, **flags}
    answer = {"interfaces": [{**told, "addresses": ["127.0.0.1", "::1"]}]}
    proxy.script = answering({"interfaces.list": answer}.get)
    _, line = proxied_command("interfaces").splitlines()
    assert line.split() == ["lo,", "loop0", "1", "up", "no", "65536", "on", "127.0.0.1", "::1"]


def test_log_levels(command: Command) -> None:
    """Shown, set, set for one facility, and reset."""
    assert command("log-level").splitlines()[1] == "(all others)  info"
    assert "rules         debug" in command("log-level", "debug", "--facility", "rules")
    assert command.json("log-level", "error")["global"] == "error"
    command("log-level", "default", "--facility", "rules")
    assert command.json("log-level")["facilities"]["rules"] is None


def test_ping_version_and_shutdown(
    proxied_command: Command, proxy: LineProxy, control: FakeSupervisor, revision: int
) -> None:
    """The daemon works, its version is shown, and it shuts down."""
    command = proxied_command
    well = f"revision {revision}, 1 of 1 workers running, up for "
    assert re.search(rf"{well}(\d+ s|\d+ min \d+ s)\n", command("ping"))
    assert 0 < command.json("ping")["uptime_s"] < 3600
    assert command("version").splitlines()[1] == f"daemon at {proxy.path}: {SERVER}"
    assert command.json("version")["daemon"] == SERVER
    control.shutdown_asked.clear()
    assert command("shutdown") == "the daemon is shutting down\n"
    assert control.shutdown_asked.wait(10)
    proxy.stop()
    command("ping", code=1)
    assert command.err == f"mcr: no daemon listens at {proxy.path}; start one with mcr serve\n"


def test_version_without_a_daemon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    """The exit code is 0 even if no daemon runs."""
    monkeypatch.setattr("mcr.client.sync.default_socket", lambda: tmp_path / "mcr.sock")
    assert main(["version"]) == 0
    own, none = capsys.readouterr().out.splitlines()
    assert own.startswith("mcr ")
    assert "none (no daemon listens at" in none
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"client": own, "daemon": None}


def test_events(command: Command, control: FakeSupervisor) -> None:
    """One line for each event of the requested kinds, from the requested number on."""
    with RawClient(control.path) as client:
        before = client.call("hello", protocol=1)["sequence"]
        client.call("rules.add", rules=[A])
        note = control.note()
        client.call("rules.remove", rules=[ID_A])
    lines = command("events", "--after", str(before), "--count", "2").splitlines()
    assert lines[0].endswith(f"  {before + 1} rule added: rule feed-a was added")
    assert lines[1].endswith(" rule removed: rule feed-a was removed")
    logged = command("events", "--after", str(before), "--count", "3", "--kind", "log")
    assert any(line.endswith(f" log record: {note}") for line in logged.splitlines())
    arguments = ["--after", str(before + 1), "--count", "1", "--kind", "rule", "--json"]
    only = json.loads(command("events", *arguments))
    assert (only["event"], only["text"]) == ("removed", "rule feed-a was removed")
    with RawClient(control.path) as client:
        client.call("events.subscribe", after=before + 1, kinds=["rule"])
        assert client.line()["params"] == only


def test_the_last_events(command: Command, control: FakeSupervisor) -> None:
    """As many as there are of the kinds that are shown; then the command ends."""
    with RawClient(control.path) as client:
        client.call("rules.add", rules=[A])
        client.call("rules.disable", rules=[ID_A])
        client.call("logs.set", level="debug", facility="security")
    added, disabled = command("events", "--last", "2", "--kind", "rule").splitlines()
    assert added.endswith("rule added: rule feed-a was added")
    assert disabled.endswith("rule disabled: rule feed-a was disabled")
    assert re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d  ", added)
    assert command("events", "--last", "1", "--kind", "rule").splitlines() == [disabled]
    command("events", "--last", "1", "--after", "0", code=2)
    assert "excludes --after and --count" in command.err


def test_the_socket_of_the_environment(
    control: FakeSupervisor, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """It counts where no socket is named, also in Python."""
    monkeypatch.setenv("MCR_SOCKET", str(control.path))
    assert main(["version"]) == 0
    assert f"daemon at {control.path}: {SERVER}" in capsys.readouterr().out
    assert main(["version", "--socket", "/nowhere"]) == 1
    with mcr.Client() as client:
        assert client.ping()
    monkeypatch.setenv("MCR_SOCKET", "")
    monkeypatch.setattr("mcr.client.sync.default_socket", lambda: control.path)
    with mcr.Client() as client:
        assert client.ping()


def test_events_are_escaped(proxied_command: Command, proxy: LineProxy) -> None:
    """Control characters in names cannot reach the terminal."""
    about = {"sequence": 7, "at": 1.5, "kind": "worker", "event": "died", "text": "it died\x1b[2J"}
    event = {"jsonrpc": "2.0", "method": "event", "params": about}

    def subscribe(line: bytes, connection: socket.socket) -> bool:
        asked = json.loads(line)
        if asked["method"] == "events.subscribe":
            result = {"sequence": 6, "oldest": 7, "missed": 0}
            send_message(connection, {"jsonrpc": "2.0", "id": asked["id"], "result": result}, event)
        return bool(asked["method"] == "events.subscribe")

    proxy.script = subscribe
    assert proxied_command("events", "--count", "1").endswith("  7 worker died: it died\\x1b[2J\n")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["rule", "add", "239.1.1.1%lo:0 to 127.0.0.1:7001"], 2, "rule 1, input, port: "),
        (["rule", "remove", "nobody"], 2, "there is no rule with the id or name 'nobody'"),
        (["rule", "remove", "x%lo:1 to y:2"], 2, "input, group"),
        (["rule", "add", A, "--expected-revision", "0"], 1, "at revision {revision}, not 0"),
        (["rule", "add", A, "--expected-revision", "-1"], 2, "-1 is out of range: at least 0"),
        (["rule", "replace"], 2, "'RULE': give rules, or a file of rules"),
        (
            ["rule", "replace", A, "--file", "x"],
            2,
            "'RULE': give rules, or a file of rules",
        ),
        (["rule"], 2, "see mcr rule --help"),
        (["rule", "ad", A], 2, "see mcr rule --help"),
        (["rule", "add"], 2, "see mcr rule add --help"),
        (["log-level", "loud"], 2, "'loud' is not one of 'trace', 'debug', 'info', 'notice'"),
        (["log-level", "loud"], 2, "'alert', 'emergency', 'default'; see mcr log-level --help"),
        (["log-level", "defualt"], 2, "'default'; did you mean 'default'? see mcr log-level"),
        (["log-level", "default"], 2, "'LEVEL': 'default' needs --facility"),
        (["log-level", "info", "--facility", "x"], 2, "'x' is not one of 'supervisor', 'control'"),
        (["log-level", "--facility", "rules"], 2, "'LEVEL': needs a level: trace, debug, info"),
        (["events", "--kind", "x"], 2, "'--kind': 'x' is not one of 'rule', 'worker'"),
        (["events", "--after", "x"], 2, "'--after': 'x' is not a whole number"),
        (["events", "--count", "0"], 2, "'--count': 0 is out of range: at least 1"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    code: int,
    expected: str,
    control: FakeSupervisor,
    revision: int,
    capsys: Capture,
) -> None:
    """On standard error, with the exit code for the error."""
    place = [] if arguments == ["rule"] else ["--socket", str(control.path)]
    assert main([*arguments, *place]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mcr: ")
    assert expected.format(revision=revision) in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["stats", "--watch"], ["events", "--after", "0"]])
def test_ctrl_c_ends_endless_commands(arguments: list[str], control: FakeSupervisor) -> None:
    """That is their regular end: exit code 0, no traceback."""
    words = [str(MCR), *arguments, "--json", "--socket", str(control.path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert isinstance(json.loads(process.stdout.readline()), dict)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, b"")


def test_watching_on_a_terminal(control: FakeSupervisor) -> None:
    """The live table appears, with the rule's state."""
    with mcr.Client(control.path) as client:
        client.add_rule(A)
    own, theirs = pty.openpty()
    words = [str(MCR), "stats", "--watch", "--socket", str(control.path)]
    with subprocess.Popen(words, stdout=theirs, stderr=theirs, stdin=theirs) as process:
        try:
            os.close(theirs)
            seen = b""
            while b"no frame seen on lo" not in seen:
                assert select.select([own], [], [], 20)[0], seen
                seen += os.read(own, 65536)
            process.send_signal(signal.SIGINT)
            while select.select([own], [], [], 0.05)[0] or process.poll() is None:
                try:
                    os.read(own, 65536)
                except OSError:  # all ends of the terminal are closed
                    break
            assert process.wait(20) == 0
        finally:
            process.kill()
            os.close(own)
