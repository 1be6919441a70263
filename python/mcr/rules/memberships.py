"""Group memberships per interface, with a warning before a snooping bridge runs out of entries.

`fields` decides whether a single block is joined.
"""

from collections import Counter
from typing import Optional

from .fields import JOIN_DEFAULT_GROUPS
from .spec import ResolvedInput

BRIDGE_GROUPS = 4096
"""The default limit (mcast_hash_max) of a Linux bridge, for the groups of both IP versions and of
all its hosts. With one more it disables snooping for good (br_multicast_new_group)."""
_Block = tuple[str, bytes, int]


class MembershipCounts:
    """The groups that rules join, by interface; several rules for one block join it once."""

    def __init__(self, base: Optional["MembershipCounts"] = None) -> None:
        """Begin with the memberships of `base`, which is not changed."""
        self._base = base
        self._rules: Counter[_Block] = Counter()
        self._groups: Counter[str] = Counter()

    def add(self, rule_input: ResolvedInput) -> str | None:
        """Count an input; return a warning if its groups cross one of the limits."""
        if rule_input.join == "none" or not rule_input.group.is_multicast:
            return None
        block, before = _block(rule_input), self.groups(rule_input.device)
        if self._count(block) == 0:
            self._groups[rule_input.device] += 1 << rule_input.group_bits
        self._rules[block] += 1
        after = self.groups(rule_input.device)
        if not any(before <= limit < after for limit in (JOIN_DEFAULT_GROUPS, BRIDGE_GROUPS)):
            return None
        return (
            f"with this rule {after} groups are joined on {rule_input.interface}: a snooping Linux"
            f" bridge on the way keeps {BRIDGE_GROUPS} groups by default, including those of other"
            " hosts, and with one more it floods all groups from then on; raise its mcast_hash_max,"
            " or write join=none"
        )

    def remove(self, rule_input: ResolvedInput) -> None:
        """Undo one `add`."""
        if rule_input.join == "none" or not rule_input.group.is_multicast:
            return
        block = _block(rule_input)
        self._rules[block] -= 1
        if self._count(block) == 0:
            self._groups[rule_input.device] -= 1 << rule_input.group_bits

    def groups(self, interface: str) -> int:
        """The number of groups joined on an interface; overlapping blocks count separately."""
        before = self._base.groups(interface) if self._base else 0
        return before + self._groups[interface]

    def _count(self, block: _Block) -> int:
        """The number of rules that join exactly this block."""
        before = self._base._count(block) if self._base else 0
        return before + self._rules[block]


def _block(rule_input: ResolvedInput) -> _Block:
    return rule_input.device, rule_input.group.packed, rule_input.group_bits
