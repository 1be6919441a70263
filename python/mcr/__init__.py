"""A multicast relay for Linux that is a Python library.

Relay a group to another one and to a host, until the end of the block:

    import mcr

    with mcr.Relay("239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001 192.0.2.7:7000") as relay:
        relay.wait(60)
        print(relay.stats())

It sends the datagrams of a group to any number of outputs: other groups, ports, interfaces and
unicast hosts. `Relay` runs rules, `Stats` accounts for every datagram, and `Client` controls a
daemon; `AsyncRelay` and `AsyncClient` do so with asyncio. Every error is an `McrError`. What this
package itself has is the interface, `help(mcr.Relay)` for one; its modules are not.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from ._native import Datagram as Datagram
    from ._native import Discard as Discard
    from ._native import parse_frame as parse_frame
    from .alarms.event import Event as Event
    from .alarms.event import LossReport as LossReport
    from .client import Client as Client
    from .client import EventStream as EventStream
    from .client.aio import AsyncClient as AsyncClient
    from .client.aio import AsyncEventStream as AsyncEventStream
    from .doctor import Finding as Finding
    from .doctor import diagnose as diagnose
    from .errors import ArgumentError as ArgumentError
    from .errors import ConflictError as ConflictError
    from .errors import DaemonError as DaemonError
    from .errors import EngineError as EngineError
    from .errors import InterfaceError as InterfaceError
    from .errors import McrError as McrError
    from .errors import Problem as Problem
    from .errors import RightsError as RightsError
    from .errors import RuleError as RuleError
    from .explain.results import CopyExplanation as CopyExplanation
    from .explain.results import DatagramFacts as DatagramFacts
    from .explain.results import Explanation as Explanation
    from .explain.results import OtherRule as OtherRule
    from .explain.results import RuleExplanation as RuleExplanation
    from .protocol.results import ChangeResult as ChangeResult
    from .protocol.results import ConfigurationResult as ConfigurationResult
    from .protocol.results import DaemonConfiguration as DaemonConfiguration
    from .protocol.results import DaemonStats as DaemonStats
    from .protocol.results import FlowList as FlowList
    from .protocol.results import Hello as Hello
    from .protocol.results import InterfaceInfo as InterfaceInfo
    from .protocol.results import LogLevels as LogLevels
    from .protocol.results import Pong as Pong
    from .protocol.results import RuleDifference as RuleDifference
    from .protocol.results import RuleForm as RuleForm
    from .protocol.results import RuleInfo as RuleInfo
    from .protocol.results import RuleList as RuleList
    from .protocol.results import RuleOutputInfo as RuleOutputInfo
    from .protocol.results import ShapingInfo as ShapingInfo
    from .protocol.results import Totals as Totals
    from .protocol.results import WorkerCount as WorkerCount
    from .protocol.results import WorkerDeath as WorkerDeath
    from .protocol.results import WorkerInfo as WorkerInfo
    from .relay.aio import AsyncRelay as AsyncRelay
    from .relay.aio import AsyncRelayEventStream as AsyncRelayEventStream
    from .relay.event_stream import RelayEventStream as RelayEventStream
    from .relay.relay import Relay as Relay
    from .rules import Input as Input
    from .rules import Output as Output
    from .rules import Rule as Rule
    from .rules.expectation import Expectation as Expectation
    from .rules.host_change import HostChange as HostChange
    from .rules.shaping import InterfaceRate as InterfaceRate
    from .rules.shaping import Shaping as Shaping
    from .rules.shaping import TrafficClass as TrafficClass
    from .stats import Alarm as Alarm
    from .stats import ClassStats as ClassStats
    from .stats import FlowStats as FlowStats
    from .stats import InterfaceStats as InterfaceStats
    from .stats import LatencyStats as LatencyStats
    from .stats import LegStats as LegStats
    from .stats import MergeStats as MergeStats
    from .stats import OutputLoss as OutputLoss
    from .stats import OutputStats as OutputStats
    from .stats import Rate as Rate
    from .stats import RuleFacts as RuleFacts
    from .stats import RuleRate as RuleRate
    from .stats import RuleStats as RuleStats
    from .stats import SequenceStats as SequenceStats
    from .stats import Stats as Stats
    from .taps.record import DatagramRecord as DatagramRecord
    from .taps.stream import TapStream as TapStream
    from .traffic import Latency as Latency
    from .traffic import ReceivedSequence as ReceivedSequence
    from .traffic import Receiver as Receiver
    from .traffic import ReceiveReport as ReceiveReport
    from .traffic import Sender as Sender
    from .traffic import SendReport as SendReport

# Loaded at first use: a program loads only what it needs, and the command `mcr`, for which this
# file runs first, can handle Ctrl-C before the rest is loaded. Type checkers read the imports
# above.
_EXPORTS = {
    "._native": ("Datagram", "Discard", "parse_frame"),
    ".alarms.event": ("Event", "LossReport"),
    ".client": ("Client", "EventStream"),
    ".client.aio": ("AsyncClient", "AsyncEventStream"),
    ".doctor": ("Finding", "diagnose"),
    ".errors": (
        "ArgumentError",
        "ConflictError",
        "DaemonError",
        "EngineError",
        "InterfaceError",
        "McrError",
        "Problem",
        "RightsError",
        "RuleError",
    ),
    ".explain.results": (
        "CopyExplanation",
        "DatagramFacts",
        "Explanation",
        "OtherRule",
        "RuleExplanation",
    ),
    ".protocol.results": (
        "ChangeResult",
        "ConfigurationResult",
        "DaemonConfiguration",
        "DaemonStats",
        "FlowList",
        "Hello",
        "InterfaceInfo",
        "LogLevels",
        "Pong",
        "RuleDifference",
        "RuleForm",
        "RuleInfo",
        "RuleList",
        "RuleOutputInfo",
        "ShapingInfo",
        "Totals",
        "WorkerCount",
        "WorkerDeath",
        "WorkerInfo",
    ),
    ".relay.aio": ("AsyncRelay", "AsyncRelayEventStream"),
    ".relay.event_stream": ("RelayEventStream",),
    ".relay.relay": ("Relay",),
    ".rules": ("Input", "Output", "Rule"),
    ".rules.expectation": ("Expectation",),
    ".rules.host_change": ("HostChange",),
    ".rules.shaping": ("InterfaceRate", "Shaping", "TrafficClass"),
    ".stats": (
        "Alarm",
        "ClassStats",
        "FlowStats",
        "InterfaceStats",
        "LatencyStats",
        "LegStats",
        "MergeStats",
        "OutputLoss",
        "OutputStats",
        "Rate",
        "RuleFacts",
        "RuleRate",
        "RuleStats",
        "SequenceStats",
        "Stats",
    ),
    ".taps.record": ("DatagramRecord",),
    ".taps.stream": ("TapStream",),
    ".traffic": (
        "Latency",
        "ReceivedSequence",
        "ReceiveReport",
        "Receiver",
        "SendReport",
        "Sender",
    ),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605 -- a list, derived from the one above


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- a module's attribute may be anything
    """Load a public name at its first use (PEP 562)."""
    if name == "__version__":
        value = importlib.import_module("importlib.metadata").version("mcr-relay")
    elif name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name], __name__), name)
    else:
        from .similar_names import suggestion  # noqa: PLC0415 -- after a mistake only

        hint = suggestion(name, __all__, before="; ")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, also those not loaded yet."""
    return sorted({*globals(), *__all__, "__version__"})
