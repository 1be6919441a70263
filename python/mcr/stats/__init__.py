"""Counters of a relay, and the status of its rules."""

from .model import InterfaceStats, OutputStats, RuleRate, RuleStats, Stats

__all__ = ["InterfaceStats", "OutputStats", "RuleRate", "RuleStats", "Stats"]
