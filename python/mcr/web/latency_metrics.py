"""The latency of rules as classic histograms of Prometheus."""

from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from ..stats import RuleStats

_S_US = 1e6
BOUNDS_US = tuple(2**power / 1000 for power in (*range(13, 26), 27, 30))
"""Bounds of the engine's buckets, so that nothing is interpolated: 8.2 us to 34 ms by factors of
two, then 134 ms and 1.07 s. They limit the time series of a rule to 18."""
_LABELS = ("rule", "name")


def latency_metrics(rules: Iterable[RuleStats]) -> Iterator[Metric]:
    """Yield the metrics of those rules whose latency is measured."""
    histogram = HistogramMetricFamily(
        "mcr_rule_latency_seconds",
        "From the kernel's receive time stamp of a datagram to the end of its sends.",
        labels=_LABELS,
    )
    unmeasured = CounterMetricFamily(
        "mcr_rule_latency_unmeasured_datagrams",
        "Datagrams without a usable time stamp.",
        labels=_LABELS,
    )
    for rule in rules:
        latency = rule.latency
        if latency is None:
            continue
        labels = (rule.id, rule.name or "")
        counts = zip(BOUNDS_US, latency.below(BOUNDS_US), strict=True)
        buckets = [(str(bound / _S_US), float(count)) for bound, count in counts]
        buckets.append(("+Inf", float(latency.samples)))
        histogram.add_metric(labels, buckets, latency.sum_us / _S_US)
        unmeasured.add_metric(labels, latency.unmeasured)
    yield from (histogram, unmeasured)
