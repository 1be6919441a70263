"""Log levels as text, such as `info,rules=debug`: a level for all, then those of facilities."""

from collections.abc import Mapping
from typing import NamedTuple, Self

from .constants import FACILITIES, LEVELS, Facility, Level

LOG_VARIABLE = "MCR_LOG"
"""The environment variable with the log levels of a daemon that gets none on its command line."""


class LogSpec(NamedTuple):
    """Log levels that a user requests."""

    level: Level
    """The level of facilities that have none of their own."""
    facilities: Mapping[Facility, Level]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text; without a level for all, that is info.

        Raises:
            ValueError: with the word that is wrong, and the words that are possible.
        """
        level: Level | None = None
        facilities: dict[Facility, Level] = {}
        for part in text.split(","):
            name, equals, word = part.strip().rpartition("=")
            if not equals:
                if level is not None:
                    raise ValueError(f"has two levels for all facilities: {level} and {word}")
                level = _level(word)
            elif name in facilities:
                raise ValueError(f"has two levels for {name}")
            else:
                facilities[_facility(name)] = _level(word)
        return cls(level or "info", facilities)

    def level_of(self, facility: Facility) -> Level:
        """The level from which on this facility is logged."""
        return self.facilities.get(facility, self.level)


def _level(word: str) -> Level:
    for each in LEVELS:
        if word == each:
            return each
    raise ValueError(f"{word!r} is not one of {', '.join(map(repr, LEVELS))}")


def _facility(word: str) -> Facility:
    for each in FACILITIES:
        if word == each:
            return each
    raise ValueError(f"{word!r} is not one of the facilities {', '.join(map(repr, FACILITIES))}")
