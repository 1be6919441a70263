"""The lifecycle of a relay, and the lock of the threads that share it.

Owns what may be done when. Knows neither rules nor the engine.
"""

import os
import threading

from ..errors import McrError


class Lifecycle:
    """New, started, stopped, closed; all of it in the process that made it.

    A forked child owns nothing of a relay: engine and sockets are its parent's.
    """

    def __init__(self) -> None:
        """Begin a life in this process."""
        self.is_started = False
        self.is_stopped = False
        self.is_closed = False
        self._pid = os.getpid()
        self._lock = threading.RLock()

    @property
    def is_own(self) -> bool:
        """Whether this process is the one that made it."""
        return self._pid == os.getpid()

    def locked(self) -> threading.RLock:
        """The lock, to be used with `with`.

        A context manager written in Python would keep the lock if an exception of a signal handler
        came while it has it.

        Raises:
            McrError: called in a forked child.
        """
        # Before the lock: another thread of the parent may have held it during the fork.
        if not self.is_own:
            raise McrError("the relay belongs to the process that made it, not to a forked child")
        return self._lock

    def check_usable(self) -> None:
        """Raise McrError once it is closed."""
        if self.is_closed:
            raise McrError("the relay is closed")

    def check_startable(self) -> None:
        """Raise McrError once it is closed or was stopped."""
        self.check_usable()
        if self.is_stopped:
            raise McrError("the relay was stopped; make a new one")

    def check_changeable(self) -> None:
        """Raise McrError once it is closed or was stopped: rules change no more then."""
        self.check_usable()
        if self.is_stopped:
            raise McrError("the relay was stopped; its rules change no more")
