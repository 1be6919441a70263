"""`python -m mcr.daemon.supervisor SETTINGS`: the program that `mcr serve` executes.

Owns the exit code: 0 after a clean shutdown, 130 after Ctrl-C before anything was started, else 1
with one line on standard error.
"""

import os
import signal
import sys

from ..._native import set_process_title
from ...errors import McrError
from . import DaemonSettings, supervise


def main() -> int:
    """Run the supervisor with the settings on the command line."""
    # A reload before the event loop handles signals is redundant: the start reads the files anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    set_process_title("mcr: supervisor")
    try:
        return 0 if supervise(DaemonSettings.from_text(sys.argv[1])) else 1
    except (McrError, OSError) as error:
        print(f"mcr: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before the event loop handles signals
        return 130


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # A normal exit would wait for ever for a thread that is blocked on a dead disk.
    os._exit(code)
