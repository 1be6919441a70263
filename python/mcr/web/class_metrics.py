"""The metrics of classes of traffic: at most sixteen classes, each a value of one label."""

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from ..protocol.results import DaemonStats
from ..rules.shaping import CLASSES_LIMIT

_LABELS = ("class",)


def class_metrics(stats: DaemonStats) -> Iterator[Metric]:
    """Yield the metrics of all classes; gauges, since a removed rule takes its counts with it."""
    families = {
        name: GaugeMetricFamily(f"mcr_class_{name}", text, labels=_LABELS)
        for name, text in (
            ("priority", "The priority of a class; a higher one is served first."),
            ("weight", "The weight of a class among those of its priority."),
            ("rules", "The rules in a class."),
            ("wanted_datagrams", "Copies that were due, of the present rules of a class."),
            ("sent_datagrams", "Copies that were sent, of the present rules of a class."),
            ("sent_bytes", "UDP payload of these."),
            ("lost_datagrams", "Copies that were not sent, of the present rules of a class."),
            ("limited_datagrams", "Those of them for which an interface's rate left no room."),
        )
    }
    for each in stats.classes[:CLASSES_LIMIT]:
        values = (
            *(each.priority, each.weight, each.rules, each.wanted, each.sent, each.sent_bytes),
            *(each.lost, each.class_limited),
        )
        for family, value in zip(families.values(), values, strict=True):
            family.add_metric((each.name,), value)
    yield from families.values()
