"""A multicast relay for Linux that is a Python library.

Datagrams of a group go on to any number of outputs: other groups, ports, interfaces and unicast
hosts. `Relay` runs rules; `Stats` says where every datagram went; every error is an `McrError`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._native import Datagram, Discard, parse_frame
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
from .rules import Input, Output, Rule

if TYPE_CHECKING:
    from .doctor import Finding, diagnose
    from .names import HostChange
    from .relay import Relay
    from .stats import InterfaceStats, OutputStats, RuleRate, RuleStats, Stats
    from .traffic import Latency, Receiver, ReceiveReport, Sender, SendReport

__all__ = [
    "ConflictError",
    "DaemonError",
    "Datagram",
    "Discard",
    "EngineError",
    "Finding",
    "HostChange",
    "Input",
    "InterfaceError",
    "InterfaceStats",
    "Latency",
    "McrError",
    "Output",
    "OutputStats",
    "Problem",
    "ReceiveReport",
    "Receiver",
    "Relay",
    "RightsError",
    "Rule",
    "RuleError",
    "RuleRate",
    "RuleStats",
    "SendReport",
    "Sender",
    "Stats",
    "diagnose",
    "parse_frame",
]

# What a program needs not for rules alone is loaded at first use: a third of the import's time.
_LATER = {
    "Finding": ".doctor",
    "HostChange": ".names",
    "InterfaceStats": ".stats",
    "Latency": ".traffic",
    "OutputStats": ".stats",
    "ReceiveReport": ".traffic",
    "Receiver": ".traffic",
    "Relay": ".relay",
    "RuleRate": ".stats",
    "RuleStats": ".stats",
    "SendReport": ".traffic",
    "Sender": ".traffic",
    "Stats": ".stats",
    "diagnose": ".doctor",
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
