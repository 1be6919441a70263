"""The capabilities of this process (capabilities(7))."""

from collections.abc import Mapping, Sequence
from pathlib import Path

OFFLOAD_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
"""What the relay in the kernel needs, with the numbers of linux/capability.h."""
USER_CAPABILITIES = {"CAP_SETUID": 7, "CAP_SETGID": 6}
"""What root needs to become another user."""


def missing_capabilities(needed: Mapping[str, int]) -> list[str]:
    """Return the names of those capabilities that are not effective."""
    lines = Path("/proc/self/status").read_text().splitlines()
    effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return [name for name, number in needed.items() if not effective >> number & 1]


def missing_text(missing: Sequence[str]) -> str:
    """Say that these capabilities, at least one, are missing."""
    return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
