"""What the numbers in the datagrams of flows say, as metrics: lost before the relay, and more."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from ..stats import FlowStats

_S_US = 1e6
_LABELS = ("rule", "name", "source", "source_port", "group", "port")


def sequence_metrics(flows: Iterable[FlowStats], names: Mapping[str, str]) -> Iterator[Metric]:
    """Yield the metrics of those flows whose numbers are read.

    Args:
        flows: of any rules.
        names: of those rules whose flows have metrics, by id; empty for a rule without a name.
    """
    by_unit = (*_LABELS, "unit")
    lost = CounterMetricFamily("mcr_flow_lost", "Missing numbers of a flow.", labels=by_unit)
    duplicated = CounterMetricFamily(
        "mcr_flow_duplicated", "Numbers of a flow that came again.", labels=by_unit
    )
    reordered = CounterMetricFamily(
        "mcr_flow_reordered", "Numbers of a flow that came late.", labels=by_unit
    )
    gaps = CounterMetricFamily("mcr_flow_gaps", "How often numbers were missing.", labels=_LABELS)
    resets = CounterMetricFamily(
        "mcr_flow_resets", "How often the sender began to count anew.", labels=_LABELS
    )
    jitter = GaugeMetricFamily("mcr_flow_jitter_seconds", "The jitter of a flow.", labels=_LABELS)
    for flow in flows:
        read = flow.sequence
        if read is None or read.unit is None or flow.rule not in names:
            continue
        sender = (flow.source, str(flow.source_port), flow.group, str(flow.port))
        labels = (flow.rule, names[flow.rule], *sender)
        lost.add_metric((*labels, read.unit), read.lost)
        duplicated.add_metric((*labels, read.unit), read.duplicated)
        reordered.add_metric((*labels, read.unit), read.reordered)
        gaps.add_metric(labels, read.gaps)
        resets.add_metric(labels, read.resets)
        jitter.add_metric(labels, read.jitter_us / _S_US)
    yield from (lost, duplicated, reordered, gaps, resets, jitter)
