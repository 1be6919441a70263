"""The error that makes the start of a daemon fail."""

from ...errors import McrError


class StartError(McrError):
    """The daemon or one of its children cannot start; the text is one sentence."""
