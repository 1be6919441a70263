"""Nodes of a fleet without daemons, of which one process runs hundreds."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

from nats.aio.msg import Msg

from mcr.client.aio import AsyncClient
from mcr.errors import DaemonError
from mcr.fleet import FleetDocument, NatsSettings, NodeStatus
from mcr.fleet.agent import HEARTBEAT_S
from mcr.fleet.nats_connection import NatsConnection
from mcr.fleet.nats_store import RULES_BUCKET, STATUS_BUCKET, NatsStore, key_of, name_of
from mcr.json_codec import encode
from mcr.protocol.results import ConfigurationResult, Hello

from .deadline import until

READY_S = 30.0


class ObedientDaemon:
    """The client of a daemon that applies whatever it is given, at once."""

    def __init__(self) -> None:
        """It has no rules."""
        self.revision = 0
        """How many changes it has made."""

    def as_client(self) -> AsyncClient:
        """The same, for an agent."""
        return cast(AsyncClient, self)

    async def hello(self) -> Hello:
        """The greeting."""
        return Hello(1, "mcr", 1, self.revision, "udp", 1, 0)

    async def apply_rules(self, *_: object, **__: object) -> ConfigurationResult:
        """Take the rules."""
        self.revision += 1
        return ConfigurationResult(self.revision, False, (), (), (), 0, (), (), ())

    async def stats(self) -> Any:  # noqa: ANN401 -- never
        """It has no counters."""
        raise DaemonError("no counters")


@contextlib.contextmanager
def answering_nodes(settings: NatsSettings, names: Iterable[str]) -> Iterator[None]:
    """Have nodes that follow one document each report at once that it is applied.

    All share one connection, so that their number costs the servers and `mcr fleet` what real nodes
    would, and this machine next to nothing.
    """
    nodes, ready, ending = [*names], threading.Event(), threading.Event()
    running = threading.Thread(target=lambda: asyncio.run(_answer(settings, nodes, ready, ending)))
    running.start()
    try:
        assert ready.wait(READY_S), "the nodes have not reported"
        yield
    finally:
        ending.set()
        running.join()


async def _answer(
    settings: NatsSettings, names: list[str], ready: threading.Event, ending: threading.Event
) -> None:
    connection = NatsConnection(settings)
    statuses = NatsStore(connection, STATUS_BUCKET)
    answers = set[asyncio.Task[None]]()
    applied = dict[str, dict[str, str]]()

    def report(node: str) -> None:
        revisions = applied.get(node, {})
        state = "applied" if revisions else "no_document"
        now = time.time()
        status = NodeStatus(node, {}, state, revisions, (), 1, 1, now, now, applied=revisions)  # type: ignore[arg-type]
        subject = statuses.subject(key_of(node))
        task = asyncio.create_task(connection.client.publish(subject, encode(status)))
        answers.add(task)
        task.add_done_callback(answers.discard)

    def receive(message: Msg) -> None:
        name = name_of(message.subject.removeprefix(rules.subject("")))
        node = name.partition("/")[2]
        applied[node] = {name: FleetDocument(name, message.data.decode()).revision}
        report(node)

    rules = NatsStore(connection, RULES_BUCKET)
    connection.subscriptions[f"{rules.subject('nodes')}.*"] = receive
    async with connection:
        await connection.wait_connected(READY_S)
        for each in names:
            report(each)
        await until(lambda: not answers, READY_S, "the first reports")
        await connection.client.flush()
        ready.set()
        while not await asyncio.to_thread(ending.wait, HEARTBEAT_S):
            for each in names:
                report(each)
