"""The requests about classes of traffic and rates of interfaces, as those in `methods`."""

from collections.abc import Mapping
from typing import Any

from ..protocol.results import ShapingInfo
from .methods import DOUBT, Call, call_of, given_members


def shaping() -> Call[ShapingInfo]:
    """Return the classes of traffic, and the rates of interfaces."""
    return call_of("shaping.get", {}, ShapingInfo)


def change_shaping(
    *,
    classes: Mapping[str, Mapping[str, int] | None] | None = None,
    interfaces: Mapping[str, Mapping[str, Any] | None] | None = None,
    expected_revision: int | None = None,
    dry_run: bool = False,
) -> Call[ShapingInfo]:
    """Change classes of traffic and rates of interfaces, all or none; the others stay.

    Args:
        classes: by name, ``{"priority": 5, "weight": 2}``, of which what is missing stays, and None
            to remove a class.
        interfaces: by name, ``{"rate": "100mbit", "burst": 65535}``, and None to take a rate away.
        expected_revision: change nothing if the rules are at another revision.
        dry_run: check the change and return its effect, without making it.

    Returns:
        What there is afterwards; its warnings name interfaces that the daemon's host lacks.

    Raises:
        RuleError: a value is out of its range, or a rule is in a class to remove.
        ConflictError: the rules are at another revision.
    """
    given = given_members(
        classes=classes,
        interfaces=interfaces,
        expected_revision=expected_revision,
        dry_run=dry_run,
    )
    return call_of("shaping.change", given, ShapingInfo, "" if dry_run else DOUBT)
