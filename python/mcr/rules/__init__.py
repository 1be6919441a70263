"""Rules: their values, their text, and what they mean on this host."""

from .model import Input, Rule, parse_rules
from .output import Output

__all__ = ["Input", "Output", "Rule", "parse_rules"]
