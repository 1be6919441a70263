"""The lifecycle of a relay, and the lock for the threads that share it."""

import os
import threading
import time

from ..errors import McrError


class Lifecycle:
    """The state of a relay: new, started, stopped or closed.

    Valid only in the process that created the relay: the engine and sockets are not inherited by a
    forked child.
    """

    def __init__(self) -> None:
        """Begin in the state new, owned by this process."""
        self._began_s: float | None = None
        self.is_stopped = False
        self.is_closed = False
        self._pid = os.getpid()
        self._lock = threading.RLock()

    @property
    def is_started(self) -> bool:
        """Whether it was started, also if it was stopped since."""
        return self._began_s is not None

    @property
    def uptime_s(self) -> float:
        """The time since it started, in seconds; 0 before."""
        return 0.0 if self._began_s is None else time.monotonic() - self._began_s

    def begin(self) -> None:
        """Record the start."""
        self._began_s = time.monotonic()

    @property
    def is_own(self) -> bool:
        """Whether this process created the relay."""
        return self._pid == os.getpid()

    def locked(self) -> threading.RLock:
        """Return the lock, for a `with` statement.

        Not a context manager written in Python: that would keep the lock if a signal handler raised
        an exception inside it.

        Raises:
            McrError: called in a forked child.
        """
        # Before acquiring the lock: another thread of the parent may have held it during the fork.
        if not self.is_own:
            raise McrError(
                "the relay belongs to the process that created it, not to a forked child"
            )
        return self._lock

    def check_usable(self) -> None:
        """Raise McrError if the relay is closed."""
        if self.is_closed:
            raise McrError("the relay is closed")

    def check_startable(self) -> None:
        """Raise McrError if the relay is closed or was stopped."""
        self.check_usable()
        if self.is_stopped:
            raise McrError("the relay was stopped; create a new one")

    def check_changeable(self) -> None:
        """Raise McrError if the relay is closed or was stopped, as its rules are final then."""
        self.check_usable()
        if self.is_stopped:
            raise McrError("the relay was stopped; its rules can no longer change")
