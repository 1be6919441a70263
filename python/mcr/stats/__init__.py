"""Counters of a relay, and the status of its rules."""

from .model import (
    InterfaceStats,
    OutputLoss,
    OutputStats,
    RuleFacts,
    RuleRate,
    RuleStats,
    Stats,
)
from .rule_state import StateCode

__all__ = [
    "InterfaceStats",
    "OutputLoss",
    "OutputStats",
    "RuleFacts",
    "RuleRate",
    "RuleStats",
    "StateCode",
    "Stats",
]
