"""What the inputs of merging rules deliver, as metrics."""

from collections.abc import Iterable, Iterator
from typing import get_args

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from ..stats import LegStatus, RuleStats

LEG_STATUSES: tuple[str, ...] = get_args(LegStatus)
_S_MS = 1e3
_RULE = ("rule", "name")
_LEG = (*_RULE, "leg", "input")
_COUNTS = {
    "received": "Datagrams that an input of a merging rule delivered.",
    "first": "Those that no other input had delivered, nor a later one.",
    "late": "Those that no input had delivered, but one had delivered a later one.",
    "duplicate": "Those that an input had delivered before, or of one that stands by.",
    "out_of_sequence": "Those without a number that continues the input.",
}


def merge_metrics(rules: Iterable[RuleStats]) -> Iterator[Metric]:
    """Yield the metrics of the rules with several inputs, of which each has four at most."""
    lost = GaugeMetricFamily(
        "mcr_merge_lost_numbers", "Numbers that no input has delivered so far.", labels=_RULE
    )
    restarts = CounterMetricFamily(
        "mcr_merge_restarts", "How often the numbers began anew.", labels=_RULE
    )
    switches = CounterMetricFamily(
        "mcr_merge_switches", "How often a failover chose another input.", labels=_RULE
    )
    counts = {
        name: CounterMetricFamily(f"mcr_leg_{name}_datagrams", text, labels=_LEG)
        for name, text in _COUNTS.items()
    }
    missing = GaugeMetricFamily(
        "mcr_leg_missing_numbers", "Numbers that an input has not delivered so far.", labels=_LEG
    )
    status = GaugeMetricFamily(
        "mcr_leg_status", "1 for the status of an input, else 0.", labels=(*_LEG, "status")
    )
    skew = GaugeMetricFamily(
        "mcr_leg_skew_seconds",
        "How far this share of the duplicates of an input were behind at most.",
        labels=(*_LEG, "quantile"),
    )
    for rule, merge in ((rule, rule.merge) for rule in rules):
        if merge is None:
            continue
        labels = (rule.id, rule.name or "")
        lost.add_metric(labels, merge.lost)
        restarts.add_metric(labels, merge.restarts)
        switches.add_metric(labels, merge.switches)
        for number, leg in enumerate(merge.legs, 1):
            own = (*labels, str(number), leg.input)
            for name, family in counts.items():
                family.add_metric(own, getattr(leg, name))
            missing.add_metric(own, leg.missing)
            for word in LEG_STATUSES:
                status.add_metric((*own, word), word == leg.status)
            for quantile, ms in (("0.5", leg.skew_p50_ms), ("0.99", leg.skew_p99_ms)):
                if ms is not None:
                    skew.add_metric((*own, quantile), ms / _S_MS)
    yield from (lost, restarts, switches, *counts.values(), missing, status, skew)
