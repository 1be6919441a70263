"""A finding of the diagnosis."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["ok", "advice", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check of this host."""

    name: str
    """The name of the check, such as ``gro``."""
    severity: Severity
    """`problem`: something will not work; `advice`: it works, but could work better."""
    text: str
    """One sentence, without a full stop."""
    interface: str | None = None
    """The interface concerned."""
    fix: str | None = None
    """The command by which an administrator fixes it."""

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `mcr doctor --json` prints."""
        return asdict(self)
