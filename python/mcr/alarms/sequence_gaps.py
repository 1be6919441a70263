"""Numbers that are missing in what the relay receives, as losses of flows."""

from collections.abc import Iterable, Iterator, Mapping

from .losses import NewLoss
from .notice import WatchedRule, label

Flow = tuple[str, str, int, str, int]
"""The rule's id, the sender and its port, the group and its port."""
FlowGaps = tuple[str, str, int, str, int, int]
"""The same, and how many numbers are missing."""


class SequenceGapMonitor:
    """What was missing in each flow at the last sample."""

    def __init__(self) -> None:
        """Have no sample yet."""
        self._missing: Mapping[Flow, int] | None = None

    def forget(self) -> None:
        """Compare the next sample with none."""
        self._missing = None

    def sample(
        self, gaps: Iterable[FlowGaps], rules: Mapping[str, WatchedRule]
    ) -> Iterator[NewLoss]:
        """Yield what has been lost before the relay since the last sample.

        What only came late is not missing any more, and not reported again.
        """
        before = self._missing
        self._missing = {gap[:5]: gap[5] for gap in gaps}
        if before is None:
            return
        for flow, missing in self._missing.items():
            new = missing - before.get(flow, 0)
            rule_id, source, source_port, group, port = flow
            watched = rules.get(rule_id)
            if new <= 0 or watched is None:
                continue
            rule = watched.rule
            fields = {
                "id": rule.id,
                "name": rule.name,
                "source": source,
                "source_port": source_port,
                "group": group,
                "port": port,
            }
            place = f"the stream from {source} port {source_port} to {group} of rule {label(rule)}"
            yield NewLoss(place, fields, {"sequence_gap": new})
