"""Why a daemon does not start; knows nothing of the package."""

from ...errors import McrError


class StartError(McrError):
    """The daemon cannot start, or its children cannot; the text is one sentence."""
