"""What a running relay's counters say is wrong: pure functions from a reading to findings."""

from collections.abc import Iterator, Sequence

from ..stats import FlowStats, InterfaceStats, OutputStats, RuleStats, Stats
from .finding import Finding, Severity

_RECENT_S = 5.0
"""A refusal before that says nothing about now."""
_CANNOT_RECEIVE = ("unresolved", "waiting")
_WELL = ("flowing", "disabled")
_NAMED_SENDERS = 4


def check_running(stats: Stats, flows: Sequence[FlowStats] = ()) -> Iterator[Finding]:
    """Yield a finding for everything that is not well, in the order of interfaces and rules.

    Args:
        stats: one reading of the counters.
        flows: the flows of these rules, if they are counted.
    """
    for interface in stats.interfaces:
        yield from _interface(interface)
    senders: dict[tuple[str, str, int], list[FlowStats]] = {}
    for flow in flows:
        if flow.rate_1s is not None and flow.rate_1s.pps:
            senders.setdefault((flow.rule, flow.group, flow.port), []).append(flow)
    for rule in stats.rules:
        if rule.state_code == "disabled":
            continue
        yield from _input(rule)
        for number, output in enumerate(rule.outputs, start=1):
            yield from _output(f"output {number} of rule {_label(rule)}", output, stats.time)
        own = (each for (rule_id, *_), each in senders.items() if rule_id == rule.id)
        yield from (_senders(rule, each) for each in own if len(each) > 1)
        if rule.flows_evicted:
            text = f"{rule.flows_evicted} flows of rule {_label(rule)} gave way to others"
            yield Finding("flows", "advice", f"{text}: more senders come and go than are counted")


def _interface(interface: InterfaceStats) -> Iterator[Finding]:
    name = interface.name
    if interface.error:
        yield Finding("receive", "problem", f"receiving ended with {interface.error}", name)
    if interface.kernel_dropped_frames:
        text = (
            f"the kernel has dropped {interface.kernel_dropped_frames} frames on {name} that the"
            " relay was too slow to take"
        )
        yield Finding("receive", "advice", text, name)


def _input(rule: RuleStats) -> Iterator[Finding]:
    label = _label(rule)
    for alarm in rule.alarms:
        yield Finding("traffic", "problem", f"rule {label}: {alarm}")
    if rule.state_code in _CANNOT_RECEIVE:
        reason = rule.facts.obstacle or rule.state_code
        yield Finding("traffic", "problem", f"rule {label} cannot receive: {reason}")
    elif not rule.alarms and rule.state_code not in _WELL:
        yield Finding("traffic", "advice", f"rule {label}: {rule.state}")


def _output(place: str, output: OutputStats, now: float) -> Iterator[Finding]:
    if output.parked is not None:
        yield Finding("output", "problem", f"{place} ({output.output}) is parked: {output.parked}")
    rate = output.rate_10s
    if rate is not None and rate.dropped_pps:
        percent = 100 * rate.dropped_pps / (rate.pps + rate.dropped_pps)
        reasons = ", ".join(f"{name} {count}" for name, count in output.dropped.items() if count)
        text = f"{place} ({output.output}) lost {percent:.2g} % of its copies in the last 10 s"
        severity: Severity = "advice" if output.parked else "problem"
        yield Finding("loss", severity, f"{text}; lost since it was added: {reasons}")
    if output.dropped.get("too_big"):
        text = f"{output.dropped['too_big']} copies were longer than the MTU of the way there"
        yield Finding("mtu", "problem", f"{place} ({output.output}): {text}")
    if output.last_refused is not None and now - output.last_refused < _RECENT_S:
        text = "the host answers that no program listens there, or the network that there is none"
        yield Finding("refused", "advice", f"{place} ({output.output}): {text}")


def _senders(rule: RuleStats, flows: Sequence[FlowStats]) -> Finding:
    names = [f"{flow.source} port {flow.source_port}" for flow in flows[:_NAMED_SENDERS]]
    more = f" and {len(flows) - len(names)} more" if len(flows) > len(names) else ""
    text = (
        f"{len(flows)} senders send to {flows[0].group} port {flows[0].port} of rule {_label(rule)}"
        f" now: {', '.join(names)}{more}"
    )
    return Finding("senders", "advice", f"{text}; name one before @ if only that is wanted")


def _label(rule: RuleStats) -> str:
    return rule.name or rule.id
