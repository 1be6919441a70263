"""An agent of a real daemon: its documents are followed, refused whole, remembered."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.deadline import wait_until
from tests.support.simulated_nodes import ObedientDaemon
from tests.topology.daemons import Daemon, serving

import mcr
from mcr.errors import RuleError
from mcr.fleet import Agent, FileSource, FleetDocument, NodeIdentity, NodeStatus
from mcr.fleet.nats_store import STATUS_BYTES
from mcr.fleet.status import PROBLEM_CHARS, PROBLEMS_LIMIT
from mcr.json_codec import encode
from mcr.protocol.results import ConfigurationResult

MCR = str(Path(sys.executable).parent / "mcr")
FEED = "239.77.1.1%lo:5077,name=feed-a to 239.77.2.1%lo:6077"
OTHER = "239.77.1.2%lo:5078,name=feed-b to 127.0.0.1:7077"
HOSTILE = (
    "daemon.workers = 2\nrules = []\n",
    'include = "*.toml"\n',
    "rules = 1\n",
    "{",
    "rules = [",
)
RATE_PPS, DURATION_S = 2000, 3


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon on loopback."""
    with serving(None, "--ingress", "udp") as made:
        yield made


@contextlib.contextmanager
def agent(daemon: Daemon, directory: Path, *arguments: str) -> Iterator[None]:
    """Run an agent of node ams1 in site ams, until SIGTERM, which it obeys."""
    command = [MCR, "agent", "--directory", str(directory), "--node", "ams1"]
    command += ["--label", "site=ams", "--socket", str(daemon.socket), *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("ready: node ams1")
            yield
        finally:
            process.terminate()
            try:
                assert process.wait(20) == 0
            finally:
                process.kill()


def write(directory: Path, name: str, *rules: str) -> None:
    """Write a document with these rules."""
    path = directory / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"rules = {json.dumps(rules)}\n")


def status_when(directory: Path, state: str, rules: int) -> Any:  # noqa: ANN401 -- JSON
    """Wait until the agent reports this state and number of rules; return its report."""

    def look() -> Any:  # noqa: ANN401 -- JSON
        with contextlib.suppress(FileNotFoundError):
            status = json.loads((directory / "status" / "ams1.json").read_text())
            return status if (status["state"], status["rules"]) == (state, rules) else None
        return None

    return wait_until(look, 20, what=f"{state} with {rules} rules")


def names(daemon: Daemon) -> set[str | None]:
    """The names of the daemon's rules."""
    with daemon.client() as client:
        return {rule.name for rule in client.rules()}


def test_traffic_never_notices_the_source(daemon: Daemon, tmp_path: Path) -> None:
    """Changes, a broken document and a source that disappears lose nothing of another rule."""
    directory = tmp_path / "fleet"
    write(directory, "labels/site=ams", FEED)
    with agent(daemon, directory, "--state", str(tmp_path / "state.json")):
        assert status_when(directory, "applied", 1)["labels"] == {"site": "ams"}
        with (
            mcr.Receiver("239.77.2.1%lo:6077") as receiver,
            mcr.Sender("239.77.1.1%lo:5077", rate_pps=RATE_PPS) as sender,
        ):
            sent = RATE_PPS * DURATION_S
            sending = threading.Thread(target=sender.send, args=(sent,))
            receiving = threading.Thread(target=receiver.receive, args=(sent,), daemon=True)
            receiving.start()
            sending.start()
            write(directory, "nodes/ams1", OTHER)
            status_when(directory, "applied", 2)
            (directory / "nodes" / "ams1.toml").write_text("rules = [\n'no rule'\n")
            (problem,) = status_when(directory, "refused", 0)["problems"]
            assert problem.startswith("nodes/ams1:")
            assert names(daemon) == {"feed-a", "feed-b"}
            directory.rename(tmp_path / "away")
            sending.join()
            (tmp_path / "away").rename(directory)
            write(directory, "nodes/ams1")
            status_when(directory, "applied", 1)
            wait_until(lambda: receiver.report().received >= sent, what="all copies")
            report = receiver.report()
            assert (report.received, report.lost) == (sent, 0)
    with daemon.client() as client:
        assert not client.stats().imbalances()
        assert client.stats().totals.lost == 0


def test_a_directory_that_does_not_exist_is_named(daemon: Daemon, tmp_path: Path) -> None:
    """The first lines do not claim that it has documents."""
    command = [MCR, "agent", "--directory", str(tmp_path / "away"), "--node", "ams1"]
    command += ["--socket", str(daemon.socket)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline() + process.stderr.readline()
        process.terminate()
    assert said == (
        f"ready: node ams1, looks for documents in {tmp_path}/away\n"
        f"warning: {tmp_path}/away is not a directory, or not mounted; no document was read yet\n"
    )


def test_documents_are_remembered(daemon: Daemon, tmp_path: Path) -> None:
    """A start without the source restores the rules; what disappears removes none."""
    directory, state = tmp_path / "fleet", tmp_path / "state.json"
    write(directory, "nodes/ams1", FEED, OTHER)
    with agent(daemon, directory, "--state", str(state), "--prune"):
        status_when(directory, "applied", 2)
        (directory / "nodes" / "ams1.toml").unlink()
    with daemon.client() as client:
        client.replace_rules([])
    directory.rename(tmp_path / "away")
    with agent(daemon, directory, "--state", str(state), "--prune"):
        wait_until(lambda: names(daemon) == {"feed-a", "feed-b"}, 20, what="restored rules")
        with daemon.client() as client:
            client.add_rule("239.77.1.3%lo:5079,name=mine to 127.0.0.1:7077")
        wait_until(lambda: names(daemon) == {"feed-a", "feed-b"}, 20, what="pruned rules")
    with daemon.client() as client:
        client.replace_rules([])


def test_heartbeat_continues_while_the_daemon_hangs(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that waits delays no report, and a report names what was decided last."""
    monkeypatch.setattr("mcr.fleet.agent.HEARTBEAT_S", 0.1)
    monkeypatch.setattr("mcr.fleet.agent.PERIOD_S", 0.05)
    write(tmp_path, "nodes/ams1")
    control = daemon.control

    async def follow() -> None:
        node = NodeIdentity("ams1")
        async with mcr.AsyncClient(daemon.socket, timeout_s=60) as client:
            running = asyncio.create_task(Agent(FileSource(tmp_path, node), client, node).run())
            before = await asyncio.to_thread(status_when, tmp_path, "applied", 0)
            os.kill(control, signal.SIGSTOP)
            try:
                write(tmp_path, "nodes/ams1", FEED)
                beats = {before["at"]}
                while len(beats) < 6:  # one report may be under way, others need the task
                    await asyncio.sleep(0.02)
                    status = status_when(tmp_path, "applied", 0)
                    assert status["revisions"] == before["revisions"]
                    beats.add(status["at"])
            finally:
                os.kill(control, signal.SIGCONT)
            await asyncio.to_thread(status_when, tmp_path, "applied", 1)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    asyncio.run(asyncio.wait_for(follow(), 40))
    with daemon.client() as client:
        client.replace_rules([])


@dataclass
class HastyStore:
    """A store of one's own: another document with each reading, and every report that came."""

    readings: int = 0
    reports: list[NodeStatus] = field(default_factory=list)

    async def read(self) -> tuple[FleetDocument, ...]:
        """A text that was never there before."""
        self.readings += 1
        return (FleetDocument("nodes/ams1", f"# {self.readings}\nrules = []\n"),)

    async def wait_for_change(self, timeout_s: float) -> None:
        """There always is one."""
        await asyncio.sleep(min(timeout_s, 0.001))

    async def report(self, status: NodeStatus) -> None:
        """Note it."""
        self.reports.append(status)


class RefusingDaemon(ObedientDaemon):
    """A daemon that finds much to say about any rules."""

    async def apply_rules(self, *_: object, **__: object) -> ConfigurationResult:
        """Refuse them."""
        raise RuleError([(f"place {number}", "x" * 1000) for number in range(100)])


def test_reports_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In number, however often documents change, and in size, whatever is wrong with them."""
    monkeypatch.setattr("mcr.fleet.agent.HEARTBEAT_S", 1.0)  # fifty reports

    async def follow(store: HastyStore, daemon: ObedientDaemon) -> None:
        agent = Agent(store, daemon.as_client(), NodeIdentity("ams1"))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(agent.run(), 0.6)

    quick, wrong = HastyStore(), HastyStore()
    asyncio.run(follow(quick, ObedientDaemon()))
    assert quick.readings > 60
    assert 5 < len(quick.reports) <= 32
    asyncio.run(follow(wrong, RefusingDaemon()))
    assert len(wrong.reports[0].problems) == PROBLEMS_LIMIT
    assert max(map(len, wrong.reports[0].problems)) == PROBLEM_CHARS
    assert len(encode(wrong.reports[0])) < STATUS_BYTES


def test_hostile_documents_are_refused(daemon: Daemon, tmp_path: Path) -> None:
    """Settings, included files and what is no configuration: refused whole and reported."""
    write(tmp_path, "nodes/ams1")
    with agent(daemon, tmp_path):
        for text in HOSTILE:
            status_when(tmp_path, "applied", 0)
            (tmp_path / "nodes" / "ams1.toml").write_text(text)
            assert status_when(tmp_path, "refused", 0)["problems"]
            assert not names(daemon)
            write(tmp_path, "nodes/ams1")


@pytest.mark.parametrize("name", ["", "../ams1", "a/b", "a=b", "-a", "a" * 101, "ä"])
def test_names_are_checked(name: str) -> None:
    """They become names of files."""
    with pytest.raises(ValueError, match="must be 1 to 100 letters"):
        NodeIdentity(name)
    with pytest.raises(ValueError, match="must be 1 to 100 letters"):
        NodeIdentity("ams1", (("site", name),))
