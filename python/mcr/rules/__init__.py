"""Rules: their values, their text, and what they mean on this host."""

from .model import Input, Output, Rule, parse_rules

__all__ = ["Input", "Output", "Rule", "parse_rules"]
