"""The configuration file of the daemon: its rules, in the format of `mcr.rules.file_format`.

Knows neither the path of the file nor the use of the rules.
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
    """The contents of a configuration file."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    rules: Annotated[list[SkipValidation[AnyEntry]], Field(max_length=limits.REQUEST_RULES)]
    """The rules, in their order."""


def read_config(whole: bytes) -> list[EnabledRule]:
    """The rules that a configuration file lists.

    Raises:
        RuleError: with all problems; rules are counted from 1.
    """
    try:
        config = ConfigFile.model_validate(parse_file(whole))
    except ValidationError as error:  # before ValueError, its base class
        raise RuleError(problems_of(error, ConfigFile)) from None
    except ValueError as error:
        raise RuleError(f"the configuration file {error}") from None
    return read_entries(config.rules, enabled=True)
