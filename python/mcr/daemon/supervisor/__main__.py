"""`python -m mcr.daemon.supervisor SETUP`: what `mcr serve` becomes, and nobody else starts.

Owns the exit code: 0 after an end in order, else 1, with one line on standard error; 130 after
Ctrl-C before anything was started.
"""

import os
import signal
import sys

from ...errors import McrError
from ...protocol.constants import name_process
from . import DaemonSettings, supervise


def main() -> int:
    """Supervise by the setup on the command line."""
    # It asks for what is read at the start anyway, until the loop takes the signals over.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    name_process("mcr-supervisor")
    try:
        return 0 if supervise(DaemonSettings.from_text(sys.argv[1])) else 1
    except (McrError, OSError) as error:
        print(f"mcr: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before the loop has taken the signals over
        return 130


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # A thread that waits for a dead disk would hold up an orderly end for ever.
    os._exit(code)
