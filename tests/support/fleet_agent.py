"""Agents as processes, and what a fleet's store on NATS servers has for them."""

import asyncio
import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tests.topology.namespaces import Namespace

from mcr.fleet import FleetDocument, SourceError
from mcr.fleet.nats_connection import NatsConnection, NatsSettings
from mcr.fleet.nats_store import (
    HISTORY,
    RULES_BUCKET,
    STATUS_BUCKET,
    STATUS_BYTES,
    NatsStore,
    key_of,
)

from .deadline import wait_until

MCR = str(Path(sys.executable).parent / "mcr")
T = TypeVar("T")
READY_S = 60.0


class AgentProcess:
    """A running `mcr agent`, and what it has said."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        """Take over a process whose standard error is a pipe."""
        self._process = process
        self.pid = process.pid
        self.log = ""
        self.was_killed = False

    def wait_for(self, text: str, within_s: float = 20) -> None:
        """Wait until it has said this."""
        ends_s = time.monotonic() + within_s
        while text not in self.log:
            left_s = ends_s - time.monotonic()
            assert left_s > 0, f"no {text!r}: {self.log}"
            assert self.read_log(left_s), f"ended without {text!r}: {self.log}"

    def read_log(self, wait_s: float = 0) -> bool:
        """Read what it has said, waiting for something; False if it has ended and said nothing."""
        assert self._process.stderr is not None
        descriptor = self._process.stderr.fileno()
        while select.select([descriptor], [], [], wait_s)[0]:
            said = os.read(descriptor, 65536)
            if not said:
                return False
            self.log += said.decode()
            wait_s = 0
        return True

    def forget(self) -> None:
        """Drop what it has said."""
        self.read_log()
        self.log = ""

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.was_killed = True
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def agent_process(
    socket: Path, node: str, *arguments: str, namespace: Namespace | None = None
) -> Iterator[AgentProcess]:
    """Run an agent of a node, here or in a namespace, until SIGTERM, which it obeys."""
    words = [MCR, "agent", "--node", node, "--socket", str(socket), *arguments]
    command = words if namespace is None else namespace.command(*words)
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        agent = AgentProcess(process)
        try:
            agent.wait_for(f"ready: node {node}", READY_S)
            yield agent
        finally:
            process.terminate()
            try:
                assert agent.was_killed or process.wait(20) == 0, agent.log
            finally:
                process.kill()


class FleetStore:
    """The two buckets of a fleet, for tests that do not run on asyncio."""

    def __init__(self, settings: NatsSettings, namespace: Namespace | None = None) -> None:
        """Contact no server yet; connections are made from the namespace."""
        self._settings, self._namespace = settings, namespace
        self._last: FleetDocument | None = None

    def create(self, replicas: int) -> None:
        """Create both buckets."""

        async def create(rules: NatsStore, status: NatsStore) -> None:
            await rules.create(replicas, HISTORY, None)
            await status.create(replicas, 1, STATUS_BYTES)

        self._run(create)

    def write(self, name: str, *rules: str) -> int:
        """Write a document with these rules; return its revision."""
        return self.write_text(name, f"rules = {json.dumps(rules)}\n")

    def write_text(self, name: str, text: str) -> int:
        """Write a document, as often as it takes while the servers elect leaders."""
        self._last = FleetDocument(name, text)

        def write() -> int:
            with contextlib.suppress(SourceError):
                return self._run(lambda rules, _: rules.put(name, text))
            return 0

        return wait_until(write, 30, what=f"{name} written")

    def remove_history(self, name: str) -> None:
        """Remove all texts of a document but the last, as a compaction does."""

        async def remove(rules: NatsStore, _: NatsStore) -> None:
            subject = rules.subject(key_of(name))
            await rules._context.purge_stream(f"KV_{RULES_BUCKET}", subject=subject, keep=1)

        self._run(remove)

    def purge(self, name: str) -> None:
        """Remove all texts of a document."""

        async def purge(rules: NatsStore, _: NatsStore) -> None:
            await rules._values.purge(key_of(name))

        self._run(purge)

    def status(self, node: str) -> Any:  # noqa: ANN401 -- JSON
        """The status of a node; None if there is none, or no server answers."""
        with contextlib.suppress(SourceError):
            found = self._run(lambda _, status: status.get(node))
            return None if found is None else json.loads(found.text)
        return None

    def wait_status(self, node: str, state: str, rules: int) -> Any:  # noqa: ANN401 -- JSON
        """Wait until a node reports this about the last document; return its report."""
        last = self._last

        def look() -> Any:  # noqa: ANN401 -- JSON
            found = self.status(node)
            if found is None or (found.get("state"), found.get("rules")) != (state, rules):
                return None
            known = last is None or found["revisions"].get(last.name) == last.revision
            return found if known else None

        return wait_until(look, 40, what=f"{node}: {state} with {rules} rules")

    def _run(self, do: Callable[[NatsStore, NatsStore], Awaitable[T]]) -> T:
        async def run() -> T:
            async with _stores(self._settings) as (rules, status):
                return await do(rules, status)

        with self._namespace or contextlib.nullcontext():
            return asyncio.run(run())


@contextlib.asynccontextmanager
async def _stores(settings: NatsSettings) -> AsyncIterator[tuple[NatsStore, NatsStore]]:
    async with NatsConnection(settings) as connection:
        await connection.wait_connected(20)
        yield NatsStore(connection, RULES_BUCKET), NatsStore(connection, STATUS_BUCKET)
