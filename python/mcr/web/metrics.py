"""The metrics of a reading, for Prometheus: names, units, labels and their bounds.

Nothing is counted here: each value is one of the daemon's (docs/web.md lists them). A rule or
output beyond the limit has no metrics of its own, and is counted as left out.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from ..protocol.results import WorkerInfo
from ..stats import AlarmCode, InterfaceStats, OutputStats, RuleStats, StateCode
from . import limits
from .class_metrics import class_metrics
from .latency_metrics import latency_metrics
from .merge_metrics import merge_metrics
from .observer import DaemonReading
from .sequence_metrics import sequence_metrics

STATES: tuple[str, ...] = get_args(StateCode)
ALARMS: tuple[str, ...] = get_args(AlarmCode)
_INTERFACE = ("interface", "ingress")
_RULE = ("rule", "name")
_OUTPUT = (*_RULE, "output", "address")
Labels = tuple[str, ...]


class Family:
    """A metric and its samples."""

    def __init__(self, metric: Metric) -> None:
        """Have no sample yet."""
        self.metric = metric

    def add(self, labels: Sequence[str], value: float) -> None:
        """Add a sample; `labels` are the values of the metric's labels."""
        self.metric.add_metric(labels, value)  # type: ignore[attr-defined]


class DaemonMetrics:
    """The metrics of one reading, as a collector of prometheus_client."""

    def __init__(
        self, reading: DaemonReading | None, *, rules: int, streams: int, refused: int
    ) -> None:
        """Create the metrics.

        Args:
            reading: what the daemon answered; None if it did not.
            rules: the most rules that have metrics of their own.
            streams: the open streams of events.
            refused: the requests that were refused because too many were in progress.
        """
        self._reading = reading
        self._most_rules = rules
        self._most_outputs = limits.METRIC_OUTPUTS_PER_RULE * rules
        self._streams = streams
        self._refused = refused

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with all its samples."""
        reading = self._reading
        yield _single("mcr_up", "Whether the daemon answered.", reading is not None)
        yield _single("mcr_web_streams", "Open streams of events.", self._streams)
        refused = counter("mcr_web_refused_requests", "Requests refused for too many at a time.")
        refused.add((), self._refused)
        yield refused.metric
        if reading is not None:
            yield from _daemon(reading)
            yield from _workers(reading.workers)
            yield from _interfaces(reading.stats.interfaces)
            yield from class_metrics(reading.stats)
            yield from self._rules(reading)

    def _rules(self, reading: DaemonReading) -> Iterator[Metric]:
        rules = reading.stats.rules[: self._most_rules]
        outputs = [(rule, output) for rule in rules for output in rule.outputs]
        total = sum(len(rule.outputs) for rule in reading.stats.rules)
        shown = outputs[: self._most_outputs]
        left_out = len(reading.stats.rules) - len(rules)
        yield _single("mcr_rules_left_out", "Rules without metrics of their own.", left_out)
        text = "Outputs without metrics of their own."
        yield _single("mcr_outputs_left_out", text, total - len(shown))
        yield from _of_rules(rules)
        yield from latency_metrics(rules)
        yield from merge_metrics(rules)
        names = {rule.id: rule.name or "" for rule in rules}
        yield from sequence_metrics(reading.flows.flows, names)
        yield from _of_outputs(shown)


def counter(name: str, text: str, labels: Labels = ()) -> Family:
    """A counter without samples; its name gets `_total`."""
    return Family(CounterMetricFamily(name, text, labels=labels))


def gauge(name: str, text: str, labels: Labels = ()) -> Family:
    """A gauge without samples."""
    return Family(GaugeMetricFamily(name, text, labels=labels))


def _single(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _daemon(reading: DaemonReading) -> Iterator[Metric]:
    stats = reading.stats
    build = gauge("mcr_build_info", "The daemon's version.", ("version", "ingress"))
    build.add((reading.hello.server.removeprefix("mcr "), reading.hello.ingress), 1)
    yield build.metric
    text = "Time since the daemon's control process started."
    yield _single("mcr_uptime_seconds", text, stats.uptime_s)
    text = "Changes of the rules since the first one."
    yield _single("mcr_rules_revision", text, stats.revision)
    counts = dict.fromkeys(STATES, 0)
    codes = [rule.state_code for rule in stats.rules] + [rule.state_code for rule in reading.aside]
    for code in codes:
        counts[code or "joined"] = counts.get(code or "joined", 0) + 1
    rules = gauge("mcr_rules", "Rules in each state.", ("state",))
    for state, count in counts.items():
        rules.add((state,), count)
    yield rules.metric
    alarms = gauge("mcr_alarms", "Rules with each alarm.", ("alarm",))
    raised: list[str] = [
        code for rule in stats.rules for code in {alarm.code for alarm in rule.alarms}
    ]
    for kind in ALARMS:
        alarms.add((kind,), raised.count(kind))
    yield alarms.metric
    if reading.flows.counted:
        yield _single("mcr_flows", "Flows that are known now.", reading.flows.total)


def _workers(workers: Iterable[WorkerInfo]) -> Iterator[Metric]:
    running = gauge("mcr_worker_running", "Whether a worker relays.", ("worker",))
    deaths = counter("mcr_worker_deaths", "Deaths of a worker.", ("worker",))
    for worker in workers:
        label = (str(worker.number),)
        running.add(label, worker.state == "running")
        deaths.add(label, worker.deaths)
    yield from (running.metric, deaths.metric)


def _interfaces(interfaces: Iterable[InterfaceStats]) -> Iterator[Metric]:
    received = counter(
        "mcr_interface_received_datagrams", "Datagrams that the kernel handed over.", _INTERFACE
    )
    received_bytes = counter(
        "mcr_interface_received_bytes", "UDP payload of received datagrams.", _INTERFACE
    )
    matched = counter(
        "mcr_interface_matched_datagrams", "Datagrams that a rule matched.", _INTERFACE
    )
    dropped = counter(
        "mcr_interface_dropped_datagrams",
        "Received datagrams that no rule relayed.",
        (*_INTERFACE, "reason"),
    )
    lost = counter(
        "mcr_interface_kernel_dropped_frames",
        "Frames lost by the kernel before mcr received them.",
        _INTERFACE,
    )
    waits = counter(
        "mcr_interface_buffer_waits", "Pauses because every buffer was in use.", _INTERFACE
    )
    receiving = gauge("mcr_interface_receiving", "Whether receiving has not failed.", _INTERFACE)
    for each in interfaces:
        labels = (each.name, each.ingress)
        received.add(labels, each.received)
        received_bytes.add(labels, each.received_bytes)
        matched.add(labels, each.matched)
        lost.add(labels, each.kernel_dropped_frames)
        waits.add(labels, each.buffer_waits)
        receiving.add(labels, each.error is None)
        for reason, count in each.dropped.items():
            dropped.add((*labels, reason), count)
    families = (received, received_bytes, matched, dropped, lost, waits, receiving)
    yield from (family.metric for family in families)


def _of_rules(rules: Iterable[RuleStats]) -> Iterator[Metric]:
    info = gauge("mcr_rule_info", "The text of a rule.", (*_RULE, "text"))
    state = gauge("mcr_rule_state", "1 for the state of a rule, else 0.", (*_RULE, "state"))
    alarm = gauge(
        "mcr_rule_alarm_start_timestamp_seconds",
        "Since when the rule has the alarm; absent without it.",
        (*_RULE, "alarm"),
    )
    matched = counter("mcr_rule_matched_datagrams", "Datagrams that the rule matched.", _RULE)
    matched_bytes = counter("mcr_rule_matched_bytes", "UDP payload of matched datagrams.", _RULE)
    unmatched = counter(
        "mcr_rule_unmatched_datagrams",
        "Datagrams for the addresses of the rule's input that no rule matched.",
        _RULE,
    )
    seen = gauge(
        "mcr_rule_last_datagram_timestamp_seconds", "When the last datagram matched.", _RULE
    )
    evicted = counter("mcr_rule_flows_evicted", "Flows that gave way to others.", _RULE)
    looped = counter(
        "mcr_rule_looped_payloads",
        "Payloads, among those watched, that came back to the rule as in a loop.",
        _RULE,
    )
    offloaded = gauge("mcr_rule_offloaded", "Whether the kernel relays the rule.", _RULE)
    for rule in rules:
        labels = _rule_labels(rule)
        info.add((*labels, rule.rule), 1)
        for code in STATES:
            state.add((*labels, code), code == rule.state_code)
        begun: dict[str, float] = {}
        for raised in rule.alarms:
            begun[raised.code] = min(raised.since, begun.get(raised.code, raised.since))
        for code, since in begun.items():
            alarm.add((*labels, code), since)
        matched.add(labels, rule.matched)
        matched_bytes.add(labels, rule.matched_bytes)
        unmatched.add(labels, rule.facts.unmatched)
        evicted.add(labels, rule.flows_evicted)
        looped.add(labels, rule.looped)
        offloaded.add(labels, rule.offload == "kernel")
        if rule.facts.last_seen is not None:
            seen.add(labels, rule.facts.last_seen)
    families = (
        *(info, state, alarm, matched, matched_bytes, unmatched, seen, evicted, looped),
        offloaded,
    )
    yield from (family.metric for family in families)


def _of_outputs(outputs: Iterable[tuple[RuleStats, OutputStats]]) -> Iterator[Metric]:
    wanted = counter("mcr_output_wanted_datagrams", "Copies that were due.", _OUTPUT)
    sent = counter("mcr_output_sent_datagrams", "Copies that were sent.", _OUTPUT)
    sent_bytes = counter("mcr_output_sent_bytes", "UDP payload of sent copies.", _OUTPUT)
    lost = counter("mcr_output_lost_datagrams", "Copies that were not sent.", _OUTPUT)
    dropped = counter(
        "mcr_output_dropped_datagrams", "Lost copies by reason.", (*_OUTPUT, "reason")
    )
    errors = counter(
        "mcr_output_send_errors", "Copies that the kernel refused.", (*_OUTPUT, "errno")
    )
    pending = gauge("mcr_output_pending_datagrams", "Copies that wait, or are being sent.", _OUTPUT)
    refused = counter("mcr_output_refusals", "Answers of a host that it has no receiver.", _OUTPUT)
    parked = gauge("mcr_output_parked", "Whether nothing can be sent now.", _OUTPUT)
    for rule, output in outputs:
        labels = (*_rule_labels(rule), output.output, output.address)
        wanted.add(labels, output.wanted)
        sent.add(labels, output.sent)
        sent_bytes.add(labels, output.sent_bytes)
        pending.add(labels, output.pending)
        refused.add(labels, output.refused)
        parked.add(labels, output.parked is not None)
        lost.add(labels, output.lost)
        for reason, count in output.dropped.items():
            if count:  # all reasons of all outputs would be half of all samples
                dropped.add((*labels, reason), count)
        for errno, count in output.errors.items():
            errors.add((*labels, errno), count)
    families = (wanted, sent, sent_bytes, lost, dropped, errors, pending, refused, parked)
    yield from (family.metric for family in families)


def _rule_labels(rule: RuleStats) -> tuple[str, str]:
    return rule.id, rule.name or ""
