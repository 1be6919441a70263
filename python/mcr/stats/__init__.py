"""Counters of a relay, and the status of its rules."""

from .counters import InterfaceStats, OutputStats, RuleRate, RuleStats, Stats

__all__ = ["InterfaceStats", "OutputStats", "RuleRate", "RuleStats", "Stats"]
