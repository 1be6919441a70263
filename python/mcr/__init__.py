"""A multicast relay for Linux that is a Python library.

Datagrams of a group go on to any number of outputs: other groups, ports, interfaces and unicast
hosts. `Relay` runs rules; `Stats` says where every datagram went; every error is an `McrError`.
"""

from ._native import Datagram, Discard, parse_frame
from .errors import EngineError, InterfaceError, McrError, Problem, RightsError, RuleError
from .relay import Relay
from .rules import Input, Output, Rule
from .stats import InterfaceStats, OutputStats, RuleStats, Stats
from .traffic import Latency, Receiver, ReceiveReport, Sender, SendReport

__all__ = [
    "Datagram",
    "Discard",
    "EngineError",
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
    "RuleStats",
    "SendReport",
    "Sender",
    "Stats",
    "parse_frame",
]
