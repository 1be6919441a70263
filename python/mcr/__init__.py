"""A multicast relay for Linux that is a Python library.

Datagrams of a group go on to any number of outputs: other groups, ports, interfaces and unicast
hosts. `Relay` runs rules; `Stats` says where every datagram went; `Client` talks to a
daemon. Every error is an `McrError`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._native import Datagram, Discard, parse_frame
    from .client import (
        ChangeResult,
        Client,
        DaemonStats,
        Event,
        EventStream,
        Hello,
        InterfaceInfo,
        LogLevels,
        Pong,
        RuleInfo,
        RuleList,
        RuleOutputInfo,
        Totals,
        WorkerDeath,
        WorkerInfo,
    )
    from .client.aio import AsyncClient, AsyncEventStream
    from .doctor import Finding, diagnose
    from .errors import (
        ConflictError,
        DaemonError,
        EngineError,
        InterfaceError,
        McrError,
        Problem,
        RightsError,
        RuleError,
    )
    from .relay import Relay
    from .rules import Input, Output, Rule
    from .rules.hostnames import HostChange
    from .stats import InterfaceStats, OutputStats, RuleRate, RuleStats, Stats
    from .traffic import Latency, Receiver, ReceiveReport, Sender, SendReport

__all__ = [
    "AsyncClient",
    "AsyncEventStream",
    "ChangeResult",
    "Client",
    "ConflictError",
    "DaemonError",
    "DaemonStats",
    "Datagram",
    "Discard",
    "EngineError",
    "Event",
    "EventStream",
    "Finding",
    "Hello",
    "HostChange",
    "Input",
    "InterfaceError",
    "InterfaceInfo",
    "InterfaceStats",
    "Latency",
    "LogLevels",
    "McrError",
    "Output",
    "OutputStats",
    "Pong",
    "Problem",
    "ReceiveReport",
    "Receiver",
    "Relay",
    "RightsError",
    "Rule",
    "RuleError",
    "RuleInfo",
    "RuleList",
    "RuleOutputInfo",
    "RuleRate",
    "RuleStats",
    "SendReport",
    "Sender",
    "Stats",
    "Totals",
    "WorkerDeath",
    "WorkerInfo",
    "diagnose",
    "parse_frame",
]

# All is loaded at first use. A program takes only what it needs, and the command `mcr`, for which
# this file runs first, can handle Ctrl-C before the rest is loaded.
_LATER = {
    "AsyncClient": ".client.aio",
    "AsyncEventStream": ".client.aio",
    "ChangeResult": ".client",
    "Client": ".client",
    "ConflictError": ".errors",
    "DaemonError": ".errors",
    "DaemonStats": ".client",
    "Datagram": "._native",
    "Discard": "._native",
    "EngineError": ".errors",
    "Event": ".client",
    "EventStream": ".client",
    "Finding": ".doctor",
    "Hello": ".client",
    "HostChange": ".rules.hostnames",
    "Input": ".rules",
    "InterfaceError": ".errors",
    "InterfaceInfo": ".client",
    "InterfaceStats": ".stats",
    "Latency": ".traffic",
    "LogLevels": ".client",
    "McrError": ".errors",
    "Output": ".rules",
    "OutputStats": ".stats",
    "Pong": ".client",
    "Problem": ".errors",
    "ReceiveReport": ".traffic",
    "Receiver": ".traffic",
    "Relay": ".relay",
    "RightsError": ".errors",
    "Rule": ".rules",
    "RuleError": ".errors",
    "RuleInfo": ".client",
    "RuleList": ".client",
    "RuleOutputInfo": ".client",
    "RuleRate": ".stats",
    "RuleStats": ".stats",
    "SendReport": ".traffic",
    "Sender": ".traffic",
    "Stats": ".stats",
    "Totals": ".client",
    "WorkerDeath": ".client",
    "WorkerInfo": ".client",
    "diagnose": ".doctor",
    "parse_frame": "._native",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- a module's attribute may be anything
    """Load a public name at its first use (PEP 562)."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LATER[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, also those not loaded yet."""
    return sorted({*globals(), *__all__})
