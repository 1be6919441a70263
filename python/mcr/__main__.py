"""The program `mcr` and `python -m mcr`, which Ctrl-C ends quietly from the very start."""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130
"""The exit code after Ctrl-C, as a shell counts it: 128 and the signal's number."""


def main() -> int:
    """Load the command line and run it; return the exit code."""
    # The import takes long enough to be interrupted, and some of the imported modules turn a
    # KeyboardInterrupt into another error. A signal that the shell ignores stays ignored.
    quiet = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if quiet:
        signal.signal(signal.SIGINT, _end)
    # pydantic looks for plugins in all installed packages, at a tenth of the time of a command.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from .cli import main as run  # noqa: PLC0415 -- not before the signal is handled

    try:
        if quiet:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return run()
    except KeyboardInterrupt:
        return INTERRUPTED


def _end(_number: int, _frame: FrameType | None) -> None:
    """Exit at once: nothing has been opened or printed yet."""
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
