"""A change of the addresses of a host name, as clients get it too, who resolve no names."""

from dataclasses import dataclass

from ..json_codec import JsonObject
from .fields import Address


@dataclass(frozen=True, slots=True)
class HostChange(JsonObject):
    """A host name whose addresses changed, or that failed to resolve again."""

    host: str
    before: tuple[Address, ...]
    after: tuple[Address, ...]
    """The same as `before` if the name did not resolve."""
    error: str | None = None
    """Why the name did not resolve; None if it did."""

    def __str__(self) -> str:
        """One line for a log."""
        before, after = (", ".join(map(str, each)) for each in (self.before, self.after))
        if self.error is not None:
            return f"{self.error}; its copies still go to {before}"
        return f"the host {self.host!r} now resolves to {after} instead of {before}"
