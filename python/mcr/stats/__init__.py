"""Counters of a relay, and the status of its rules."""

from .alarm import Alarm, AlarmCode
from .latency import LatencyStats
from .merge import LegStats, LegStatus, MergeStats
from .model import (
    ClassStats,
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
from .sequence import SequenceStats

__all__ = [
    "Alarm",
    "AlarmCode",
    "ClassStats",
    "FlowStats",
    "InterfaceStats",
    "LatencyStats",
    "LegStats",
    "LegStatus",
    "MergeStats",
    "OutputLoss",
    "OutputStats",
    "Rate",
    "RuleFacts",
    "RuleRate",
    "RuleStats",
    "SequenceStats",
    "StateCode",
    "Stats",
]
