"""What was wrong with a command line: collected, so that the user reads all of it at once.

Owns the reading of numbers given as options and the exceptions that carry an exit code to
`main()`. Knows no command.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from ..errors import RuleError

Choice = TypeVar("Choice", bound=str)
Made = TypeVar("Made")

Problem = tuple[str, str]
"""What is wrong: the field or option, and one sentence."""


class UsageError(Exception):
    """The command line is wrong; `problems` names each field and what is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Hold the problems in the order in which they were found."""
        self.problems = list(problems)
        super().__init__("; ".join(f"{field}: {text}" for field, text in self.problems))


class Problems(list[Problem]):
    """The problems found so far; readers add to it and return None where the value is bad."""

    def seconds(self, option: str, text: str | None) -> float | None:
        """Read a time span in seconds, more than 0, finite."""
        return None if text is None else self._positive(option, text)

    def count(self, option: str, text: str | None) -> int | None:
        """Read a whole number, more than 0."""
        if text is None:
            return None
        number = self._positive(option, text)
        if number is None:
            return None
        if not number.is_integer():
            self.append((option, f"{text!r} is not a whole number"))
            return None
        return int(number)

    def choice(self, option: str, text: str, choices: Sequence[Choice]) -> Choice | None:
        """Read one of a few words."""
        for choice in choices:
            if choice == text:
                return choice
        self.append((option, f"{text!r} is none of {', '.join(choices)}"))
        return None

    def collect(self, field: str, make: Callable[[], Made]) -> Made | None:
        """Return what `make` gives, or note the ValueError or the problems that it raises."""
        try:
            return make()
        except (UsageError, RuleError) as error:
            self.extend(error.problems)
        except ValueError as error:
            self.append((field, str(error)))
        return None

    def raise_if_any(self) -> None:
        """End the reading of the command line.

        Raises:
            UsageError: something was wrong.
        """
        if self:
            raise UsageError(self)

    def _positive(self, option: str, text: str) -> float | None:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.append((option, f"{text!r} is not a number"))
        elif number <= 0:
            self.append((option, f"{text} is not more than 0"))
        else:
            return number
        return None
