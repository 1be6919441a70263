"""Rules of many hosts from one place: an agent keeps a daemon's rules those of its documents.

where documents come from, and where the status goes     RuleSource
a directory as a source                                  FileSource
servers of NATS JetStream as a source (extra fleet)      NatsSource
the client of the daemon that follows a source           Agent
the documents and nodes on these servers (extra fleet)   Fleet
"""

import importlib
from typing import TYPE_CHECKING, Any

from .agent import Agent
from .file_source import FileSource
from .source import FleetDocument, NodeIdentity, RuleSource, SourceError
from .status import NodeStatus, NodeTraffic

if TYPE_CHECKING:
    from .fleet import Fleet as Fleet
    from .nats_connection import NatsSettings as NatsSettings
    from .nats_source import NatsSource as NatsSource

# Loaded at first use, since they need nats-py.
_OF_THE_EXTRA = {
    "Fleet": "fleet",
    "NatsSettings": "nats_connection",
    "NatsSource": "nats_source",
}

__all__ = [
    "Agent",
    "FileSource",
    "Fleet",
    "FleetDocument",
    "NatsSettings",
    "NatsSource",
    "NodeIdentity",
    "NodeStatus",
    "NodeTraffic",
    "RuleSource",
    "SourceError",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- any class
    if name not in _OF_THE_EXTRA:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_OF_THE_EXTRA[name]}", __name__), name)
