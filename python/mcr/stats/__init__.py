"""Counters of a relay, and the status of its rules."""

from .model import (
    FlowStats,
    InterfaceStats,
    OutputLoss,
    OutputStats,
    Rate,
    RuleFacts,
    RuleRate,
    RuleStats,
    Stats,
)
from .rule_state import StateCode

__all__ = [
    "FlowStats",
    "InterfaceStats",
    "OutputLoss",
    "OutputStats",
    "Rate",
    "RuleFacts",
    "RuleRate",
    "RuleStats",
    "StateCode",
    "Stats",
]
