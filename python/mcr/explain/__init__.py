"""What a relay would do with a datagram, and why; nothing is sent.

The native core matches the datagram and computes the copies, by the code of the engine. This
package names interfaces, adds what is known of running rules, and writes sentences.
"""

from .explainer import RuleExplainer, explain_rules
from .results import CopyExplanation, DatagramFacts, Explanation, OtherRule, RuleExplanation
from .words import parse_datagram

__all__ = [
    "CopyExplanation",
    "DatagramFacts",
    "Explanation",
    "OtherRule",
    "RuleExplainer",
    "RuleExplanation",
    "explain_rules",
    "parse_datagram",
]
