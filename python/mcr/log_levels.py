"""The severities of the log as numbers of `logging`, and the logger of each facility."""

import logging
from collections.abc import Mapping

from .choices import LEVELS, Facility, Level

NUMBERS: Mapping[str, int] = {
    "trace": 5,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": 25,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "alert": 60,
    "emergency": 70,
}
"""The severities as numbers of `logging`, which has no trace, notice, alert and emergency."""

for _name, _number in NUMBERS.items():
    logging.addLevelName(_number, _name.upper())


def level_of(record: logging.LogRecord) -> Level:
    """The severity of a record; a number between two of them is the less severe one."""
    fitting = (name for name in reversed(LEVELS) if NUMBERS[name] <= record.levelno)
    return next(fitting, "trace")


def logger_of(facility: Facility) -> logging.Logger:
    """The logger of a facility."""
    return logging.getLogger(f"mcr.{facility}")
