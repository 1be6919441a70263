"""The rules of a configuration as requests to a daemon have them."""

from typing import Any

from ..rules.objects import text_or_object
from .reader import Configuration


def wanted_forms(configuration: Configuration) -> list[str | dict[str, Any]]:
    """The rules of a configuration as the protocol has them."""
    forms = []
    for wanted in configuration.rules:
        rule = wanted.rule if isinstance(wanted.rule, str) else text_or_object(wanted.rule)
        forms.append(rule if wanted.enabled else {"rule": rule, "enabled": False})
    return forms
