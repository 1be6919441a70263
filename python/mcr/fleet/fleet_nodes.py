"""The nodes of a fleet: what each has reported, which revision it should have, and which it has.

Cheap to repeat: reports arrive by themselves, of documents only the revisions are read, and a text
only when it has changed.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from ..json_codec import JsonObject
from .fleet import Fleet
from .fleet_plan import EMPTY
from .node_statuses import age_s, is_silent
from .source import FleetDocument, StoredText
from .status import NodeStatus

_REPORTS_S = 10.0  # a report that was lost is read within this time
_GETS = 50  # of more changed documents all are read together
_HISTORIES = 5  # that one reading asks for
_STATES = {"no_document": "no document", "daemon_unreachable": "no daemon"}


@dataclass(frozen=True, slots=True)
class FleetNode(JsonObject):
    """One node."""

    name: str
    status: NodeStatus | None
    """What it has reported last; None if it never has."""
    wanted: int
    """The newest revision of its documents; 0 without any."""
    applied: int | None
    """The newest revision up to which it has all changes of its documents: 0 before the first; None
    if the text that it has is older than the history."""

    @property
    def state(self) -> str:
        """In a word or two: that of its report, ``silent``, ``never seen`` or ``behind``."""
        if self.status is None:
            return "never seen"
        if is_silent(self.status):
            return "silent"
        if self.status.state == "applied":
            return "applied" if self.applied == self.wanted else "behind"
        return _STATES.get(self.status.state, self.status.state)

    @property
    def has_problem(self) -> bool:
        """Whether it has not what it should, or loses, or has an alarm."""
        return self.state != "applied" or self.loses

    @property
    def loses(self) -> bool:
        """Whether it loses copies now, or has an alarm."""
        traffic = self.status.traffic if self.status else None
        return traffic is not None and (traffic.lost_pps > 0 or traffic.alarms > 0)

    @property
    def age_s(self) -> float | None:
        """How long ago it has reported, in seconds; None if it never has."""
        return None if self.status is None else age_s(self.status)


class FleetNodes:
    """Reads the nodes of a fleet, as often as it is asked."""

    def __init__(self, fleet: Fleet) -> None:
        """Read nothing yet."""
        self._fleet = fleet
        self._reports_read_at_s = -inf
        self._wanted: dict[str, StoredText] = {}
        self._numbers: dict[str, dict[str, int]] = {}
        """By name and hash, the revisions of the texts that a document has or had."""
        self._searched: set[tuple[str, str]] = set()

    async def read(self) -> list[FleetNode]:
        """Return the nodes that have reported or have a document, sorted by name.

        Raises:
            SourceError: no server answers, or refuses.
        """
        await self._read_documents()
        statuses = await self._statuses()
        await self._read_histories(statuses)
        reported = {each.node: each for each in statuses}
        names = {
            name.partition("/")[2]
            for name, stored in self._wanted.items()
            if name.startswith("nodes/") and stored.text != EMPTY
        }
        return [self._node(name, reported.get(name)) for name in sorted(names | reported.keys())]

    async def _statuses(self) -> list[NodeStatus]:
        if time.monotonic() - self._reports_read_at_s < _REPORTS_S:
            return self._fleet.heard_nodes()
        statuses = await self._fleet.nodes()
        self._reports_read_at_s = time.monotonic()
        return statuses

    async def _read_documents(self) -> None:
        revisions = await self._fleet.revisions()
        for name in self._wanted.keys() - revisions.keys():
            del self._wanted[name]
        changed = [
            name
            for name, revision in revisions.items()
            if name not in self._wanted or self._wanted[name].revision < revision
        ]
        if len(changed) > _GETS:
            for each in await self._fleet.documents():
                self._note(each)
                self._wanted[each.name] = each
            return
        for name in changed:
            found = await self._fleet.document(name)
            if found is not None:
                self._note(found)
                self._wanted[name] = found

    async def _read_histories(self, statuses: Iterable[NodeStatus]) -> None:
        """Find out the revisions of texts that nodes have and the store had."""
        unknown = {
            (name, text)
            for status in statuses
            for name, text in status.applied.items()
            if name in self._wanted and text not in self._numbers[name]
        }
        for name, text in sorted(unknown - self._searched)[:_HISTORIES]:
            self._searched.add((name, text))
            for each in await self._fleet.history(name):
                self._note(each)

    def _note(self, stored: StoredText) -> None:
        text = FleetDocument(stored.name, stored.text).revision
        numbers = self._numbers.setdefault(stored.name, {})
        numbers[text] = max(stored.revision, numbers.get(text, 0))

    def _node(self, name: str, status: NodeStatus | None) -> FleetNode:
        labels = status.labels.items() if status else ()
        names = [f"nodes/{name}", *(f"labels/{key}={value}" for key, value in labels)]
        documents = [self._wanted[each] for each in names if each in self._wanted]
        wanted = max((each.revision for each in documents), default=0)
        applied = self._applied(documents, status.applied if status else {})
        return FleetNode(name, status, wanted, applied)

    def _applied(self, documents: Iterable[StoredText], applied: Mapping[str, str]) -> int | None:
        """The newest revision that a node has, of those before the first one that it misses."""
        numbers, missed = [0], inf
        for each in documents:
            if each.name not in applied:
                missed = min(missed, each.revision)
                continue
            number = self._numbers[each.name].get(applied[each.name])
            if number is None:
                return None
            numbers.append(number)
            if number < each.revision:
                missed = min(missed, each.revision)
        return max(each for each in numbers if each < missed)
