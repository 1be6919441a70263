"""What an agent reports about its node; its size is bounded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..json_codec import Count, JsonObject

PROBLEMS_LIMIT = 20
PROBLEM_CHARS = 300
NodeState = Literal["no_document", "applied", "refused", "daemon_unreachable"]
"""No document was ever read; the daemon has the rules of all documents; a document or the daemon
refused them, and nothing has changed; or the daemon does not answer."""


@dataclass(frozen=True, slots=True)
class NodeTraffic(JsonObject):
    """The sums over all rules of a node: counts since they were added, and rates."""

    matched: Count
    sent: Count
    lost: Count
    matched_pps: float
    lost_pps: float
    """Datagrams matched and copies lost per second, over the last 10 s."""
    alarms: Count
    """The number of alarms that rules have now."""
    at: float
    """When the counters were read, as Unix time in seconds."""


@dataclass(frozen=True, slots=True)
class NodeStatus(JsonObject):
    """The state of one node."""

    node: str
    labels: Mapping[str, str]
    state: NodeState
    revisions: Mapping[str, str]
    """The revision of each document that `state` is about, by its name."""
    problems: tuple[str, ...]
    """Up to 20 sentences of up to 300 characters: why documents were refused, or what failed."""
    rules: Count
    """The number of rules that the documents want."""
    daemon_revision: Count | None
    """That of the daemon after the last change; None if nothing was applied yet."""
    documents_at: float | None
    """When the documents were last read from the source, as Unix time in seconds; None if never."""
    at: float
    """When this was written, as Unix time in seconds: the heartbeat of the agent."""
    traffic: NodeTraffic | None = None
    """None if the daemon has not answered yet."""
    applied: Mapping[str, str] = field(default_factory=dict)
    """The revision of each document whose rules the daemon was given last, by its name; empty if
    the agent has applied none since its start."""


def bounded(problems: tuple[str, ...]) -> tuple[str, ...]:
    """The problems as a status may have them."""
    return tuple(each[:PROBLEM_CHARS] for each in problems[:PROBLEMS_LIMIT])
