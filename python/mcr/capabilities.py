"""The capabilities of this process (capabilities(7))."""

from collections.abc import Mapping
from pathlib import Path

OFFLOAD_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
"""What the relay in the kernel needs, with the numbers of linux/capability.h."""


def missing_capabilities(needed: Mapping[str, int]) -> list[str]:
    """Return the names of those capabilities that are not effective."""
    lines = Path("/proc/self/status").read_text().splitlines()
    effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return [name for name, number in needed.items() if not effective >> number & 1]
