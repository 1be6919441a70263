"""Every error that mcr raises on purpose; knows nothing of the package: all may import it."""

from collections.abc import Iterable
from typing import NamedTuple


class Problem(NamedTuple):
    """One thing that is wrong: where it stands and how to put it right."""

    field: str
    """A path such as ``rule 2, output 1, ttl``; empty where no field is to blame."""
    message: str
    """One sentence that names the fix, without a full stop."""

    def __str__(self) -> str:
        """Path and message, as the user reads them."""
        return f"{self.field}: {self.message}" if self.field else self.message

    def under(self, path: str) -> "Problem":
        """The same problem seen from one level higher, as ``output 1`` + ``ttl``."""
        return Problem(f"{path}, {self.field}" if self.field else path, self.message)


class McrError(Exception):
    """The base of every error of mcr."""


class RuleError(McrError, ValueError):
    """A rule, an input or an output is wrong, in itself or on this host.

    ``problems`` holds everything that was found, not only the first; the text has one line each.
    """

    problems: tuple[Problem, ...]

    def __init__(self, problems: str | Iterable[tuple[str, str]]) -> None:
        """Takes pairs of (field, message), or one sentence that no field is to blame for."""
        pairs = [("", problems)] if isinstance(problems, str) else problems
        self.problems = tuple(Problem(*pair) for pair in pairs)
        super().__init__(self.problems)

    def __str__(self) -> str:
        """One problem a line."""
        return "\n".join(str(problem) for problem in self.problems)


class InterfaceError(McrError, OSError):
    """An interface went away, or the kernel refused something on it."""


class RightsError(McrError, PermissionError):
    """A right is missing; the text names the capability and what works without it."""


class EngineError(McrError, RuntimeError):
    """The engine stopped by itself; the text says why."""


class DaemonError(McrError, ConnectionError):
    """The daemon cannot be reached, ended the connection, or answered what it never should."""


class ConflictError(McrError):
    """The rules have changed since the expected revision; read them again and decide anew."""

    def __init__(self, expected: int, actual: int) -> None:
        """Hold the revision that was expected, and the one that there is."""
        self.expected = expected
        self.actual = actual
        super().__init__(f"the rules are at revision {actual}, not {expected}: nothing has changed")
