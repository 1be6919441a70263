"""What was wrong with a command line: collected, so that the user reads all of it at once.

Owns the reading of numbers given as options and the exceptions that carry an exit code to
`main()`. Knows no command.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from ..errors import Problem, RuleError

Choice = TypeVar("Choice", bound=str)
Made = TypeVar("Made")
_DIGITS_LIMIT = 18  # what a signed 64-bit number holds for certain


class UsageError(Exception):
    """The command line is wrong; `problems` names each field and what is wrong with it."""

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        """Hold the problems in the order in which they were found."""
        self.problems = [Problem(*problem) for problem in problems]
        super().__init__("\n".join(map(str, self.problems)))


class Problems:
    """The problems found so far; a reader notes one and returns None where a value is bad."""

    def __init__(self) -> None:
        """Start without a problem."""
        self.found: list[Problem] = []

    def seconds(self, option: str, text: str | None) -> float | None:
        """Read a time span in seconds, more than 0, finite."""
        return None if text is None else self._positive(option, text, " of seconds")

    def rate(self, option: str, text: str | None) -> float | None:
        """Read so many a second, more than 0, finite."""
        return None if text is None else self._positive(option, text)

    def count(self, option: str, text: str | None, most: int | None = None) -> int | None:
        """Read a whole number, more than 0 and at most `most`."""
        if text is None:
            return None
        least = "1 or more" if most is None else f"1 to {most}"
        number = self._positive(option, text, least=least)
        if number is None:
            return None
        if not number.is_integer():
            self.note(option, f"{text!r} is not a whole number; it is {least}")
            return None
        if most is not None and number > most:
            self.note(option, f"{text} is out of range; it is {least}")
            return None
        return int(number)

    def revision(self, option: str, text: str | None) -> int | None:
        """Read the number of a revision or an event: a whole number, 0 or more."""
        if text is None or (text.isascii() and text.isdigit() and len(text) <= _DIGITS_LIMIT):
            return None if text is None else int(text)
        self.note(option, f"{text!r} is not a whole number; it is 0 or more")
        return None

    def choice(self, option: str, text: str, choices: Sequence[Choice]) -> Choice | None:
        """Read one of a few words."""
        for choice in choices:
            if choice == text:
                return choice
        self.note(option, f"{text!r} is none of {', '.join(choices)}")
        return None

    def collect(
        self, field: str, make: Callable[[], Made], options: Mapping[str, str] | None = None
    ) -> Made | None:
        """Return what `make` gives, or note the ValueError or the problems that it raises.

        `options` gives problems of these fields the names that the command line has for them.
        """
        names = options or {}
        try:
            return make()
        except (UsageError, RuleError) as error:
            for name, message in error.problems:
                self.note(names.get(name, name), message)
        except ValueError as error:
            self.note(field, str(error))
        return None

    def note(self, field: str, message: str) -> None:
        """Note what is wrong with a field."""
        self.found.append(Problem(field, message))

    def raise_if_any(self) -> None:
        """End the reading of the command line.

        Raises:
            UsageError: something was wrong.
        """
        if self.found:
            raise UsageError(self.found)

    def _positive(
        self, option: str, text: str, unit: str = "", least: str = "more than 0"
    ) -> float | None:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.note(option, f"{text!r} is not a number{unit}; write digits without a unit")
        elif number <= 0:
            self.note(option, f"{text} is out of range; it is {least}")
        else:
            return number
        return None
