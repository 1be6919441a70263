"""The findings of the doctor about this host, kept for a while.

The checks run in this process, with its rights: what depends on the daemon's rights is left out.
"""

import asyncio
import time
from typing import Any

from ..doctor import Finding, diagnose
from ..errors import McrError
from . import limits

_OF_THIS_PROCESS = frozenset({"rights", "ingress", "io_uring", "descriptors"})
"""Checks whose result says nothing about the daemon, which has other rights and limits."""


class Findings:
    """Runs the checks, one at a time."""

    def __init__(self) -> None:
        """Have no findings yet."""
        self._kept: dict[str, tuple[float, list[dict[str, Any]]]] = {}
        self._lock = asyncio.Lock()

    async def about(self, rule: str | None) -> list[dict[str, Any]]:
        """The findings about a rule, given by its text, or about the host.

        Raises:
            McrError: the checks cannot be made.
        """
        key = rule or ""
        async with self._lock:
            made_s, findings = self._kept.pop(key, (0.0, []))
            if time.monotonic() - made_s > limits.FINDINGS_S or not made_s:
                findings = await asyncio.to_thread(_diagnose, rule)
                made_s = time.monotonic()
            self._kept[key] = (made_s, findings)
            if len(self._kept) > limits.FINDINGS_KEPT:
                self._kept.pop(next(iter(self._kept)))
            return findings


def _diagnose(rule: str | None) -> list[dict[str, Any]]:
    try:
        found: tuple[Finding, ...] = diagnose(*([] if rule is None else [rule]))
    except OSError as error:
        raise McrError(f"this host cannot be checked: {error.strerror}") from None
    return [each.as_dict() for each in found if each.name not in _OF_THIS_PROCESS]
