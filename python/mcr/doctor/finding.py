"""`Finding`: one thing that was looked at, and how it stands. Knows nothing else."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["ok", "advice", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about this host that matters to a relay."""

    name: str
    """What was looked at, such as ``gro``: always the same word for the same thing."""
    severity: Severity
    """`problem`: something will not work; `advice`: it works, and could do better."""
    text: str
    """One sentence, without a full stop."""
    interface: str | None = None
    """The interface that it is about."""
    fix: str | None = None
    """The command that changes it, run by an administrator."""

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `mcr doctor --json` prints."""
        return asdict(self)
