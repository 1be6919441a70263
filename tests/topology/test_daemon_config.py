"""The configuration file of the daemon, SIGHUP, and host names that move."""

import json
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.own_command import mcr_here

import mcr
from mcr.protocol.results import RuleForm

from .checks import settle
from .daemons import Daemon, serving
from .lab import Lab
from .relays import Ingress
from .test_command import MCR
from .test_hosts import hosts_file
from .traffic import PacedFlow, payloads

FLOW = "239.1.74.1%in0:5001 to 239.2.74.1%out0:6001"
OTHER = "239.1.74.2%in0:5001 to 239.2.74.2%out0:6001"
THIRD = "239.1.74.3%in0:5001 to 239.2.74.3%out0:6001"
HOST = "239.1.74.4%in0:5001 to studio.example:7000"
RATE_PPS = 5000


def test_a_configuration_changes_under_traffic(lab: Lab, tmp_path: Path) -> None:
    """By SIGHUP, reload and apply: nothing is lost in what stays, no wrong file changes any."""
    file = tmp_path / "mcr.toml"
    file.write_text(toml(FLOW, OTHER))
    with (
        serving(lab.relay, "--config", str(file)) as daemon,
        daemon.client() as client,
        lab.receive("239.2.74.1", 6001) as receiver,
        lab.sender("239.1.74.1", 5001) as sender,
    ):
        assert "2 rules" in daemon.log
        with PacedFlow(sender, RATE_PPS) as flow:
            file.write_text(json.dumps({"rules": [FLOW, {"rule": THIRD, "enabled": False}]}))
            daemon.process.send_signal(signal.SIGHUP)
            wait_until(lambda: texts(client) == [(FLOW, True), (THIRD, False)])
            for content, told in WRONG:
                assert_refused(daemon, client, partial(file.write_text, content), told)
            assert_refused(daemon, client, file.unlink, "cannot be read")
            file.write_text(toml(THIRD, FLOW))
            assert "0 added, 1 changed, 0 removed, 1 unchanged" in output(daemon, "reload")
            assert texts(client) == [(THIRD, True), (FLOW, True)]
            client.add_rule(OTHER)
            file.write_text('rules = []\ninclude = "more/*.toml"\n')
            (tmp_path / "more").mkdir()
            (tmp_path / "more" / "a.toml").write_text(toml(FLOW))
            assert f"- {THIRD}" in output(daemon, "plan", str(file))
            assert "1 removed, 1 unchanged" in output(daemon, "apply", str(file), "--yes")
            assert "0 removed, 1 unchanged" in output(daemon, "reload")
            assert texts(client) == [(FLOW, True), (OTHER, True)]
            assert f"- {OTHER}" in output(daemon, "apply", str(file), "--yes", "--prune")
            flow.advance(50)
        receiver.expect(flow.sent)
        settle(client, lambda stats: stats.rules[0].matched == len(flow.sent))


WRONG = [
    ("rules = [", "neither TOML nor JSON"),
    (f'rules = ["{FLOW}", "239.1.74.9%in0:5001 to 239.2.74.9%out0:6001,ttl=300"]', "300"),
    (f'rule = ["{FLOW}"]', "rule"),
    (f'rules = ["{FLOW}", "239.1.74.9%in0:5001 239.2.74.9%out0:6001"]', "rule 2"),
    (f'rules = ["{FLOW}", "{FLOW}"]', "rule 2: is the same as rule 1; omit one"),
    ("rules = 7", "rules"),
]


def toml(*rules: str) -> str:
    """A file with these rules."""
    return f"rules = {json.dumps(rules)}\n"


def texts(client: mcr.Client) -> list[tuple[str, bool]]:
    """The rules, and which are enabled."""
    return [(rule.rule, rule.enabled) for rule in client.rules()]


def assert_refused(
    daemon: Daemon, client: mcr.Client, make: Callable[[], object], told: str
) -> None:
    """The reload fails, it and the log say why, and the rules are as they were."""
    before, said = client.rules(), len(daemon.read_log())
    make()
    done = mcr_here("reload", "--socket", daemon.socket)
    assert done.code != 0
    assert told in done.err
    wait_until(lambda: told in daemon.read_log()[said:])
    assert client.rules().revision == before.revision
    assert texts(client) == [(rule.rule, rule.enabled) for rule in before]


def output(daemon: Daemon, *words: str) -> str:
    """What a command prints that succeeds."""
    done = mcr_here(*words, "--socket", daemon.socket)
    assert done.code == 0
    return done.out


def test_the_file_is_wanted_and_the_state_has_what_clients_changed(
    lab: Lab, tmp_path: Path
) -> None:
    """Also at the next start; a refused file ends it, or with --keep-going the state counts."""
    file, state = tmp_path / "mcr.toml", tmp_path / "state"
    file.write_text(f'daemon.state = "{state}"\ndaemon.workers = 2\n{toml(FLOW, OTHER)}')
    options = ("--config", str(file), "--workers", "1")
    with serving(lab.relay, *options) as daemon:
        with daemon.client() as client:
            client.add_rule(THIRD)
            client.disable_rule(client.rules().rules[1])
            assert origins(client) == ["file", "run time", "client"]
            settings = {"socket": str(daemon.socket), "state": str(state), "workers": 1}
            assert client.configuration().settings == settings
        daemon.process.kill()
        daemon.process.wait()
    file.write_text(f'daemon.state = "{state}"\n{toml(OTHER)}')
    with serving(lab.relay, *options) as daemon, daemon.client() as client:
        assert texts(client) == [(OTHER, False), (THIRD, True)]
        daemon.wait_for("1 unchanged; 1 rule changed at run time stays so; 1 rule")
        assert client.reload(prune=True).changed[0].after == RuleForm(OTHER, True)
        assert texts(client) == [(OTHER, True)]
        assert daemon.end() == 0
    file.write_text("rules = [")
    command = lab.relay.command(MCR, "serve", "--socket", str(tmp_path / "s"), *options)
    code, said = run_to_end(command)
    assert (code, f"{file}:1: is neither TOML nor JSON" in said) == (1, True)
    kept = ("--keep-going", "--state", str(state))
    with serving(lab.relay, *options, *kept) as daemon, daemon.client() as client:
        assert texts(client) == [(OTHER, True)]
        daemon.wait_for("THE CONFIGURATION IS REFUSED")


def origins(client: mcr.Client) -> list[str]:
    """Where its rules come from."""
    return [rule.origin for rule in client.rules()]


@pytest.mark.parametrize(("content", "told"), [*WRONG, (None, "does not exist")])
def test_a_wrong_file_at_the_start_ends_it_in_words(
    lab: Lab, tmp_path: Path, content: str | None, told: str
) -> None:
    """Nothing runs by half of a configuration; no process and no socket stay."""
    file, socket = tmp_path / "mcr.toml", tmp_path / "mcr.sock"
    if content is not None:
        file.write_text(content)
    command = lab.relay.command(MCR, "serve", "--socket", str(socket), "--config", str(file))
    done = run_to_end(command)
    assert done[0] != 0
    assert told in done[1]
    assert "Traceback" not in done[1]
    assert "ended with code" not in done[1], "it was tried again"
    assert not socket.exists()


def run_to_end(command: list[str]) -> tuple[int, str]:
    """Run a command that shall end by itself; its exit code, and what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return done.returncode, done.stderr


def test_host_names_are_looked_up_again(lab: Lab, ingress: Ingress) -> None:
    """On SIGHUP and when a client asks; a name that fails stays where it was, a new one waits."""
    before, after, last = (payloads(50, seed=seed) for seed in range(3))
    with (
        hosts_file(lab.relay) as hosts,
        lab.receive("10.2.0.2", 7000) as old,
        lab.receive("10.3.0.2", 7000, "d1") as new,
        lab.sender("239.1.74.4", 5001) as sender,
    ):
        hosts.write_text("10.2.0.2 studio.example\n")
        with serving(lab.relay, "--ingress", ingress) as daemon, daemon.client() as client:
            client.add_rule(HOST)
            sender.send(before)
            old.expect(before)
            hosts.write_text("10.3.0.2 studio.example\n")
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_for(
                "the host 'studio.example' now resolves to 10.3.0.2 instead of 10.2.0.2"
            )
            wait_until(lambda: client.ping().revision == 2)
            sender.send(after)
            new.expect(after)
            hosts.write_text("")
            (change,) = client.resolve_hosts()
            assert (change.host, change.error is not None) == ("studio.example", True)
            sender.send(last)
            new.expect(after + last)
            hosts.write_text("10.2.0.2 studio.example\n")
            (change,) = client.resolve_hosts()
            assert [str(each) for each in change.after] == ["10.2.0.2"]
            sender.send(last)
            old.expect(before + last)
            client.add_rule("239.1.74.5%in0:5001 to nobody.example:7000")
            parked = client.stats().rules[1].outputs[0].parked
            assert parked == "its host name does not resolve"
