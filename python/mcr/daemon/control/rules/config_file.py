"""The configuration file: rules as TOML, or as JSON where it begins with a brace.

    rules = [
      "239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001",
      { rule = "239.1.1.2%eth0:5001 to 192.0.2.7:7000", enabled = false },
    ]

Owns how it is read. Knows neither where it lies nor what becomes of the rules.
"""

import tomllib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, ValidationError
from pydantic_core import from_json

from ....errors import RuleError
from .. import limits
from ..api.params import AnyEntry
from ..api.validation import problems_of
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
        config = ConfigFile.model_validate(_parsed(whole))
    except ValidationError as error:
        raise RuleError(problems_of(error, ConfigFile)) from None
    return read_entries(config.rules, enabled=True)


def _parsed(whole: bytes) -> Any:  # noqa: ANN401 -- whatever the file holds
    try:
        if whole.lstrip().startswith(b"{"):
            return from_json(whole, allow_inf_nan=False)
        return tomllib.loads(whole.decode())
    except UnicodeDecodeError as error:
        raise RuleError(f"the configuration file is not UTF-8 at byte {error.start + 1}") from None
    except (ValueError, RecursionError) as error:
        raise RuleError(
            f"the configuration file is neither TOML nor JSON: {error};"
            ' write rules = ["A to B", "C to D"]'
        ) from None
