"""Clients of the daemon: `Client` waits for its answers, `AsyncClient` runs on asyncio.

A map, no code: `values` and `rule_info` are what is answered, `calls` each method once, `lines` the
JSON, `session` and `following` what is said when; `blocking` and `asynchronous` do it. Neither
knows the daemon's insides: all it shares with them is `mcr.daemon`. asyncio is loaded by
`asynchronous` only.
"""

from .blocking import Client, EventStream
from .rule_info import ChangeResult, RuleInfo, RuleList, RuleOutputInfo
from .values import (
    DaemonStats,
    Event,
    Hello,
    InterfaceInfo,
    LogLevels,
    Pong,
    Totals,
    WorkerDeath,
    WorkerInfo,
)

__all__ = [
    "ChangeResult",
    "Client",
    "DaemonStats",
    "Event",
    "EventStream",
    "Hello",
    "InterfaceInfo",
    "LogLevels",
    "Pong",
    "RuleInfo",
    "RuleList",
    "RuleOutputInfo",
    "Totals",
    "WorkerDeath",
    "WorkerInfo",
]
