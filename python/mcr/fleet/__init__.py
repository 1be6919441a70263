"""Rules of many hosts from one place: an agent keeps a daemon's rules those of its documents.

where documents come from, and where the status goes     RuleSource
a directory as a source                                  FileSource
the client of the daemon that follows a source           Agent
"""

from .agent import Agent
from .file_source import FileSource
from .source import FleetDocument, NodeIdentity, RuleSource, SourceError
from .status import NodeStatus

__all__ = [
    "Agent",
    "FileSource",
    "FleetDocument",
    "NodeIdentity",
    "NodeStatus",
    "RuleSource",
    "SourceError",
]
