"""What a change of a fleet's documents would do, document by document."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..errors import ConfigError
from ..json_codec import JsonObject
from ..rules import Rule
from .fleet_directory import read_rules_of
from .source import FleetDocument, StoredText

EMPTY = "rules = []\n"
"""The document that removes all rules of another one with its name."""


@dataclass(frozen=True, slots=True)
class PlannedDocument(JsonObject):
    """A document that is to be written."""

    name: str
    """Such as ``nodes/ams1`` or ``labels/site=ams``."""
    text: str
    revision: int
    """The revision that it replaces; 0 if there is none."""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    """Rules as text."""
    note: str | None = None
    """Why rules cannot be compared, if so."""

    @property
    def node(self) -> str | None:
        """The node that it is for; None for a label."""
        kind, _, rest = self.name.partition("/")
        return rest if kind == "nodes" else None

    def is_for(self, node: str, labels: Iterable[tuple[str, str]]) -> bool:
        """Whether a node follows it."""
        return self.node == node or self.name in {f"labels/{key}={value}" for key, value in labels}


@dataclass(frozen=True, slots=True)
class FleetPlan(JsonObject):
    """Documents to write, at the revisions that were read."""

    documents: tuple[PlannedDocument, ...]
    unchanged: tuple[str, ...] = ()
    """Names of documents that the store has already."""
    beside: tuple[str, ...] = field(default=())
    """Names of documents with rules that only the store has; they stay."""

    @property
    def nodes(self) -> set[str]:
        """The nodes with a document of their own, changed or not."""
        names = (*(each.name for each in self.documents), *self.unchanged, *self.beside)
        return {each.removeprefix("nodes/") for each in names if each.startswith("nodes/")}


def plan_documents(
    wanted: Iterable[FleetDocument], stored: Iterable[StoredText], *, prune: bool = False
) -> FleetPlan:
    """Compare documents with those of the store.

    Args:
        wanted: the documents that the store should have.
        stored: those that it has.
        prune: also remove the rules of those that only the store has.
    """
    known = {each.name: each for each in stored}
    documents, unchanged = [], []
    names = set()
    for document in wanted:
        names.add(document.name)
        before = known.get(document.name)
        if before is not None and before.text == document.text:
            unchanged.append(document.name)
        else:
            documents.append(_planned(document, before))
    others = [each for name, each in known.items() if name not in names and each.text != EMPTY]
    if prune:
        documents += [_planned(FleetDocument(each.name, EMPTY), each) for each in others]
    beside = () if prune else tuple(sorted(each.name for each in others))
    ordered = sorted(documents, key=lambda each: each.name)
    return FleetPlan(tuple(ordered), tuple(unchanged), beside)


def _planned(document: FleetDocument, before: StoredText | None) -> PlannedDocument:
    after, note = _rules(document)
    earlier: Counter[str] = Counter()
    if before is not None:
        earlier, other_note = _rules(FleetDocument(before.name, before.text))
        note = note or (other_note and f"before: {other_note}")
    return PlannedDocument(
        document.name,
        document.text,
        0 if before is None else before.revision,
        tuple((after - earlier).elements()),
        tuple((earlier - after).elements()),
        note,
    )


def _rules(document: FleetDocument) -> tuple[Counter[str], str | None]:
    try:
        configuration = read_rules_of(document)
    except ConfigError as error:
        return Counter(), str(error.problems[0])
    rules = zip(configuration.parsed, configuration.rules, strict=True)
    return Counter(_shown(rule, wanted.enabled) for rule, wanted in rules), None


def _shown(rule: Rule, enabled: bool) -> str:
    return str(rule) if enabled else f"{rule} (disabled)"
