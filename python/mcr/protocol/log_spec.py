"""Log levels as text, such as `info,rules=debug`: a level for all, then those of facilities."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from ..choices import FACILITIES, LEVELS, Facility, Level
from ..similar_names import suggestion

LOG_VARIABLE = "MCR_LOG"
"""The environment variable with the log levels of a daemon that gets none on its command line."""

ALIASES: Mapping[str, Level] = {
    "warn": "warning",
    "err": "error",
    "crit": "critical",
    "emerg": "emergency",
    "panic": "emergency",
}
"""Other names of levels, as syslog.conf(5) has them."""


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
                level = parse_level(word)
            elif name in facilities:
                raise ValueError(f"has two levels for {name}")
            else:
                facilities[_facility(name)] = parse_level(word)
        return cls(level or "info", facilities)

    def level_of(self, facility: Facility) -> Level:
        """The level from which on this facility is logged."""
        return self.facilities.get(facility, self.level)


def parse_level(word: str, *others: str) -> Level:
    """Parse the name of a level, or one of its other names.

    Args:
        word: the name.
        others: what else is possible where the word stands, for the message.

    Raises:
        ValueError: with the word, and the names that are possible.
    """
    for each in LEVELS:
        if ALIASES.get(word, word) == each:
            return each
    known = (*LEVELS, *others)
    hint = suggestion(word, known, before="; ")
    raise ValueError(f"{word!r} is not one of {_listed(known)}{hint}")


def _facility(word: str) -> Facility:
    for each in FACILITIES:
        if word == each:
            return each
    known, hint = _listed(FACILITIES), suggestion(word, FACILITIES, before="; ")
    raise ValueError(f"{word!r} is not one of the facilities {known}{hint}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
