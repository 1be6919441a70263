"""The application of a fleet without a terminal, and a fleet that answers at once."""

from dataclasses import dataclass, field
from typing import cast

from mcr.errors import McrError
from mcr.fleet.fleet import Fleet
from mcr.fleet.source import FleetDocument, StoredText
from mcr.fleet.status import NodeState, NodeStatus, NodeTraffic
from mcr.top.fleet_app import FleetTopApp
from mcr.top.fleet_reader import FleetReader

from .screens import NOW

SERVERS = "nats://ams1:4222"


def text_of(name: str, number: int) -> str:
    """The text of a document at a revision."""
    return f"# {name} {number}\nrules = []\n"


def hash_of(name: str, number: int) -> str:
    """The hash of the text of a document at a revision."""
    return FleetDocument(name, text_of(name, number)).revision


def status(
    node: str,
    state: NodeState = "applied",
    *,
    applied: dict[str, int],
    rules: int = 2,
    age_s: float = 3.0,
    problems: tuple[str, ...] = (),
    traffic: NodeTraffic | None = None,
    labels: dict[str, str] | None = None,
) -> NodeStatus:
    """A report about documents of these revisions."""
    hashes = {name: hash_of(name, number) for name, number in applied.items()}
    return NodeStatus(
        *(node, labels or {}, state, hashes, problems, rules, 7, NOW - age_s, NOW - age_s),
        traffic=traffic,
        applied=hashes,
    )


def traffic(pps: float, lost_pps: float = 0.0, lost: int = 0, alarms: int = 0) -> NodeTraffic:
    """The sums of a node."""
    count = int(100 * pps)
    return NodeTraffic(count, count - lost, lost, pps, lost_pps, alarms, NOW)


@dataclass
class FakeFleet:
    """A fleet whose documents and reports a test sets, and what was asked for."""

    documents_now: dict[str, list[int]]
    """The revisions of each document, the newest last."""
    nodes_now: list[NodeStatus]
    failure: McrError | None = None
    asked: list[str] = field(default_factory=list)

    async def __aenter__(self) -> "FakeFleet":
        self._ask("open")
        return self

    async def close(self) -> None:
        """Note that it was closed."""
        self.asked.append("close")

    async def revisions(self) -> dict[str, int]:
        """The newest revision of each document."""
        self._ask("revisions")
        return {name: numbers[-1] for name, numbers in self.documents_now.items()}

    async def documents(self) -> list[StoredText]:
        """The newest text of each document."""
        self._ask("documents")
        return [self._text(name, numbers[-1]) for name, numbers in self.documents_now.items()]

    async def document(self, name: str) -> StoredText | None:
        """The newest text of a document."""
        self._ask(f"document {name}")
        return self._text(name, self.documents_now[name][-1])

    async def history(self, name: str) -> list[StoredText]:
        """All texts of a document."""
        self._ask(f"history {name}")
        return [self._text(name, number) for number in self.documents_now[name]]

    async def nodes(self) -> list[NodeStatus]:
        """The reports, read."""
        self._ask("nodes")
        return self.nodes_now

    def heard_nodes(self) -> list[NodeStatus]:
        """The reports, without asking."""
        return self.nodes_now

    def _ask(self, what: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.asked.append(what)

    @staticmethod
    def _text(name: str, number: int) -> StoredText:
        return StoredText(name, text_of(name, number), number)


def fleet_app_of(fleet: FakeFleet) -> FleetTopApp:
    """The application in front of this fleet."""
    return FleetTopApp(FleetReader(cast(Fleet, fleet), SERVERS))
