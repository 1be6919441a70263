"""The commands, rules and programs of docs/daemon.md, docs/rules.md and docs/usage.md work."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.documents import (
    TIMEOUT_S,
    Page,
    assert_printed,
    commands,
    run_in_shell,
)
from tests.support.own_command import mcr_here
from tests.topology.daemons import serving

import mcr

DAEMON = Page.read("docs/daemon.md")
CONFIGURATION = Page.read("docs/configuration.md")
RULES = Page.read("docs/rules.md")
USAGE = Page.read("docs/usage.md")


@pytest.fixture
def daemon_socket() -> Iterator[Path]:
    """The socket of a daemon without rules."""
    with serving(None, "--ingress", "udp") as daemon:
        yield daemon.socket


@pytest.mark.timeout(240)  # some twenty commands, each of which takes seconds on a busy machine
def test_the_tour(daemon_socket: Path) -> None:
    """Each command succeeds, in the order of the page, and prints what the page shows."""
    tour = DAEMON.section("A tour")
    serve, use, disable, kill = tour.blocks("sh")
    assert serve == "mcr serve\n"
    typed = {words[0] for words in commands("mcr", [use, disable, kill])}
    assert typed == {"rule", "stats", "events", "workers", "send"}

    def run(block: str) -> str:
        done = run_in_shell(block, daemon_socket)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = run(use)
    assert "feed-a" in shown
    # A command that this machine delays is late for the stream.
    assert re.search("flowing from |silent for .*, last from ", shown)
    # A sender that this machine delays sends fewer.
    (sent,) = (int(each.replace(",", "")) for each in re.findall(r"sent ([\d,]+) data", shown))
    (matched,) = set(map(int, re.findall(r"matched (\d+),", shown)))
    assert sent - 10 < matched <= sent
    shown = run(disable)
    assert shown.count("rule feed-a was ") == 3
    assert "no       disabled" in shown
    # On a busy machine the commands may take longer than the stream.
    killing, _, rest = kill.partition("wait\n")
    run(f"{killing}wait\n")
    with mcr.Client(daemon_socket) as client:
        wait_until(lambda: is_replaced(*client.workers()), 30)
    shown = run(rest)
    assert_printed(tour.blocks("text")[0].splitlines(), shown)
    assert "killed by SIGKILL" in shown
    at_end = int(re.findall(r"  feed-a +\d+ +\S+ +(\d+) ", shown)[0])
    assert matched < at_end <= sent + 4000
    assert "removed " in shown


def is_replaced(worker: mcr.WorkerInfo) -> bool:
    """Whether a worker runs, and all is known about the death of the one before."""
    death = worker.last_death
    return worker.state == "running" and death is not None and death.missed_frames is not None


def test_every_command_of_the_table_exists() -> None:
    """Each has the options that the page promises for all."""
    rows = re.findall(r"^\| (`mcr .*?) \|", DAEMON.section("Commands").text, re.M)
    names = [name for row in rows for name in re.findall(r"`(?:mcr )?([a-z -]+)`", row)]
    rule = {"add", "remove", "enable", "disable"}
    for name in names:
        words = ["rule", name] if name in rule else name.split()
        shown = mcr_here(*words, "--help")
        assert shown.code == 0
        assert {"--socket", "--json"} <= set(re.findall(r"--[a-z-]+", shown.out))


def test_the_configuration(tmp_path: Path) -> None:
    """A daemon starts with the short file of the page, on other interfaces."""
    text = CONFIGURATION.section("The file").blocks("toml")[1]
    config = tmp_path / "rules.toml"
    config.write_text(text.replace("%eth0", "%lo").replace("%eth1", "%lo"))
    with (
        serving(None, "--ingress", "udp", "--config", str(config)) as daemon,
        daemon.client() as client,
    ):
        assert [(rule.name, rule.enabled) for rule in client.rules()] == [
            ("feed-a", True),
            (None, False),
        ]


@pytest.mark.parametrize("code", [*DAEMON.blocks("python"), *USAGE.blocks("python")])
def test_python_blocks_run(code: str, daemon_socket: Path) -> None:
    """They need no rights; a client uses the daemon of the test."""
    placed = code.replace("mcr.Client()", f"mcr.Client({str(daemon_socket)!r})")
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", placed],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert ("feed-b joined, no frame seen on lo" in run.stdout) == ("rule.state" in code)


@pytest.mark.parametrize("text", RULES.blocks("text")[0].splitlines())
def test_rules_are_read(text: str) -> None:
    """Each rule of the page is valid, and its canonical text means the same."""
    rule = mcr.Rule.parse(text)
    assert mcr.Rule.parse(str(rule)) == rule


def test_every_option_is_listed() -> None:
    """The table has exactly the options of the grammar."""
    listed = re.findall(r"^\| `(\w+)` \| (input|output) \|", RULES.text, re.M)
    for side in ("input", "output"):
        rule = "239.1.1.1%lo:5001{} to 239.2.0.1%lo:6001{}"
        texts = (",no-such=1", "") if side == "input" else ("", ",no-such=1")
        with pytest.raises(mcr.RuleError) as refused:
            mcr.Rule.parse(rule.format(*texts))
        known = set(re.findall(r"[a-z]+", str(refused.value).rpartition(" are ")[2]))
        assert {name for name, of in listed if of == side} == known, str(refused.value)


def test_the_commands_of_the_page_are_understood() -> None:
    """Their rules are valid, and each option exists."""
    words = [line for line in commands("mcr", USAGE.blocks("sh")) if line]
    assert {line[0] for line in words} == {
        "relay",
        "send",
        "receive",
        "explain",
        "trace",
        "capture",
    }
    for command, *arguments in words:
        shown = mcr_here(command, "--help")
        assert shown.code == 0
        options = {word for word in arguments if word.startswith("--")}
        assert options <= set(re.findall(r"--[a-z-]+", shown.out))
        if command == "relay":
            assert mcr.Rule.parse(" ".join(arguments))
