"""Group memberships per interface, and when a snooping bridge on the way may run out of entries.

Sees resolved inputs only. What a lone block joins is decided in `fields`.
"""

from collections import Counter
from typing import Optional

from .fields import JOIN_DEFAULT_GROUPS, Address
from .spec import ResolvedInput

BRIDGE_GROUPS = 4096
"""So many groups of both IP versions, of all who join any, a Linux bridge keeps unless it is told
otherwise (mcast_hash_max); with one more it gives up snooping for good (br_multicast_new_group)."""
_Block = tuple[str, Address, int]


class Memberships:
    """The groups that rules join, by their interfaces; several rules for one block join it once."""

    def __init__(self, base: Optional["Memberships"] = None) -> None:
        """Starts with those of `base`, which is only read."""
        self._base = base
        self._rules: Counter[_Block] = Counter()
        self._groups: Counter[str] = Counter()

    def add(self, taken: ResolvedInput) -> str | None:
        """Counts an input in; a sentence if with it there are more groups than leave room."""
        if taken.join == "none" or not taken.group.is_multicast:
            return None
        block, before = _block(taken), self.groups(taken.device)
        if self._count(block) == 0:
            self._groups[taken.device] += 1 << taken.group_bits
        self._rules[block] += 1
        now = self.groups(taken.device)
        if not any(before <= limit < now for limit in (JOIN_DEFAULT_GROUPS, BRIDGE_GROUPS)):
            return None
        return (
            f"with this rule {now} groups are joined on {taken.interface}: a snooping Linux bridge"
            f" on the way keeps {BRIDGE_GROUPS} groups by default, including those of other hosts,"
            " and with one more it floods all groups from then on; raise its mcast_hash_max, or"
            " write join=none"
        )

    def remove(self, taken: ResolvedInput) -> None:
        """Takes one `add` back."""
        if taken.join == "none" or not taken.group.is_multicast:
            return
        block = _block(taken)
        self._rules[block] -= 1
        if self._count(block) == 0:
            self._groups[taken.device] -= 1 << taken.group_bits

    def groups(self, interface: str) -> int:
        """How many groups are joined there, counting what blocks have in common for each."""
        before = self._base.groups(interface) if self._base else 0
        return before + self._groups[interface]

    def _count(self, block: _Block) -> int:
        """How many rules join this very block."""
        before = self._base._count(block) if self._base else 0
        return before + self._rules[block]


def _block(taken: ResolvedInput) -> _Block:
    return taken.device, taken.group, taken.group_bits
