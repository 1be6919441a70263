"""The exceptions of mcr. Imports no other module of the package, so that all may import it."""

from collections.abc import Iterable
from typing import NamedTuple


class Problem(NamedTuple):
    """One problem: the field, and a message that names the fix."""

    field: str
    """A path such as ``rule 2, output 1, ttl``; empty if the problem belongs to no field."""
    message: str
    """One sentence, without a full stop."""

    def __str__(self) -> str:
        """The path and the message, as users see them."""
        return f"{self.field}: {self.message}" if self.field else self.message

    def under(self, path: str) -> "Problem":
        """The same problem with its field under a path, as ``output 1`` + ``ttl``."""
        return Problem(f"{path}, {self.field}" if self.field else path, self.message)


class McrError(Exception):
    """The base class of all exceptions of mcr."""


class RuleError(McrError, ValueError):
    """A rule, input or output is invalid, in itself or on this host.

    ``problems`` has all problems, not only the first one; the text has one line for each.
    """

    problems: tuple[Problem, ...]

    def __init__(self, problems: str | Iterable[tuple[str, str]]) -> None:
        """Create the error.

        Args:
            problems: pairs of field and message, or a single message without a field.
        """
        pairs = [("", problems)] if isinstance(problems, str) else problems
        self.problems = tuple(Problem(*pair) for pair in pairs)
        super().__init__(self.problems)

    def __str__(self) -> str:
        """The problems, one per line."""
        return "\n".join(str(problem) for problem in self.problems)


class InterfaceError(McrError, OSError):
    """An interface disappeared, or the kernel refused an operation on it."""


class RightsError(McrError, PermissionError):
    """A privilege is missing; the text names the capability and what works without it."""


class EngineError(McrError, RuntimeError):
    """The engine stopped because of an error; the text names the reason."""


class DaemonError(McrError, ConnectionError):
    """The daemon cannot be reached, closed the connection, or violated the protocol."""


class ConflictError(McrError):
    """The rules have changed since the expected revision; read them and decide again."""

    def __init__(self, expected: int, actual: int) -> None:
        """Create the error.

        Args:
            expected: the revision that the client expected.
            actual: the current revision.
        """
        self.expected = expected
        self.actual = actual
        super().__init__(f"the rules are at revision {actual}, not {expected}: nothing has changed")
