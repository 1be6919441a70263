"""From the arguments that the shell leaves to the texts of rules.

A rule may be one quoted argument or, without quotes, the rest of the command line. Knows where
one rule ends and what shells do to `->`; the grammar of a rule is not known here.
"""

from collections.abc import Sequence

from .usage import UsageError

_ARROWS = ("to", "->")
REDIRECT_HINT = "the shell took '>' as a redirect; write 'to'"


def shield_arrows(argv: Sequence[str]) -> list[str]:
    """Replace arguments `->` by `to`, so that no option parser takes them for an option."""
    return ["to" if argument == "->" else argument for argument in argv]


def rule_texts(arguments: Sequence[str]) -> list[str]:
    """Return the text of each rule.

    An argument of its own that reads `to`, `->` or `+` makes all arguments one rule; without one
    each argument is a rule.

    Raises:
        UsageError: a redirect of the shell ate the arrow, or it cannot be told where a rule ends.
    """
    unquoted = any(argument in (*_ARROWS, "+") for argument in arguments)
    if "-" in arguments or (not unquoted and any(text.endswith("-") for text in arguments)):
        raise UsageError([("rule", REDIRECT_HINT)])
    if not unquoted:
        return list(arguments)
    if any(" to " in text or ("->" in text and text != "->") for text in arguments):
        raise UsageError([("rule", "quoted and unquoted rules are mixed; quote every rule")])
    if sum(argument in _ARROWS for argument in arguments) > 1:
        raise UsageError(
            [("rule", "'to' stands twice; quote each rule: mcr relay 'A to B' 'C to D'")]
        )
    return [" ".join(arguments)]
