"""The configuration file of the daemon: its rules, in the format of `mcr.rules.file_format`.

Knows neither where the file is nor what happens to the rules.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, ValidationError

from ....errors import RuleError
from ....rules.file_format import parse_file
from .. import limits
from ..api.params import AnyEntry
from ..api.pydantic_problems import problems_of
from .entries import EnabledRule, read_entries


class ConfigFile(BaseModel):
    """All that a configuration file may say."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    rules: Annotated[list[SkipValidation[AnyEntry]], Field(max_length=limits.REQUEST_RULES)]
    """In their order."""


def read_config(whole: bytes) -> list[EnabledRule]:
    """The rules that a configuration file lists.

    Raises:
        RuleError: with everything that is wrong with it; rules are counted from 1.
    """
    try:
        config = ConfigFile.model_validate(parse_file(whole))
    except ValidationError as error:  # before ValueError, which it is too
        raise RuleError(problems_of(error, ConfigFile)) from None
    except ValueError as error:
        raise RuleError(f"the configuration file {error}") from None
    return read_entries(config.rules, enabled=True)
