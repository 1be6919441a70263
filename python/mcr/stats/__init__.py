"""What a relay counted, and how its rules are doing."""

from .counters import InterfaceStats, OutputStats, RuleRate, RuleStats, Stats

__all__ = ["InterfaceStats", "OutputStats", "RuleRate", "RuleStats", "Stats"]
