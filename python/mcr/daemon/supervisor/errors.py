"""The error that ends a daemon at its start."""

from ...errors import McrError


class StartError(McrError):
    """The daemon cannot start, or its children cannot; the text is one sentence."""
