"""The exceptions of mcr. Imports no other module of the package, so that all may import it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

FieldPath = tuple[str | int, ...]
"""The way to a field: names, each followed by a number from 1 if there are several."""


@dataclass(frozen=True, slots=True, init=False)
class Problem:
    """One problem: the field, and a message that names the fix."""

    path: FieldPath
    """The path of the field, such as ``("rule", 2, "output", 1, "ttl")``; empty if the problem
    belongs to no field."""
    message: str
    """One sentence, without a full stop."""

    def __init__(self, field: str | FieldPath, message: str) -> None:
        """Create the problem.

        Args:
            field: the path, or the name of a single field; empty for no field.
            message: one sentence, without a full stop.
        """
        object.__setattr__(self, "path", _path_of(field))
        object.__setattr__(self, "message", message)

    @property
    def field(self) -> str:
        """The path as text, such as ``rule 2, output 1, ttl``; empty for no field."""
        parts = (f" {part}" if isinstance(part, int) else f", {part}" for part in self.path)
        return "".join(parts).removeprefix(", ")

    def __str__(self) -> str:
        """The path and the message, as users see them."""
        return f"{self.field}: {self.message}" if self.path else self.message

    def __iter__(self) -> Iterator[str]:
        """The field and the message, so that a problem unpacks as this pair."""
        return iter((self.field, self.message))

    def under(self, *path: str | int) -> "Problem":
        """The same problem with its field under a path, as ``output``, ``1`` + ``ttl``."""
        return Problem((*path, *self.path), self.message)


def _path_of(field: str | FieldPath) -> FieldPath:
    if isinstance(field, tuple):
        return field
    return (field,) if field else ()


class McrError(Exception):
    """The base class of all exceptions of mcr."""


class ArgumentError(McrError, ValueError, TypeError):
    """An argument is out of its range or of a wrong type; the text names it."""


class RuleError(McrError, ValueError):
    """A rule, input or output is invalid, in itself or on this host.

    ``problems`` has all problems, not only the first one; the text has one line for each.
    """

    problems: tuple[Problem, ...]

    def __init__(self, problems: str | Iterable[Problem | tuple[str | FieldPath, str]]) -> None:
        """Create the error.

        Args:
            problems: each as a value or as a pair of field and message, or a single message
                without a field.
        """
        given = [Problem("", problems)] if isinstance(problems, str) else problems
        self.problems = tuple(
            each if isinstance(each, Problem) else Problem(*each) for each in given
        )
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


class ConfigError(RuleError):
    """A configuration file is invalid; each problem has its file and line."""
