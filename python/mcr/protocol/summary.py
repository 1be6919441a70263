"""Counters as text: the reports of `mcr relay` and `mcr stats`, and the final one of a daemon."""

from collections.abc import Callable, Iterator, Mapping

from ..rules.model import counted
from ..stats import InterfaceStats, OutputStats, RuleStats, Stats
from .merge_text import merge_lines
from .results import DaemonStats, RuleInfo
from .text import printable

RULES_LISTED = 20
"""With this many rules or more, the final report of a daemon has the sums only."""
_KILO = 1000
_ORDINARY = ("off", "disabled")
"""Reasons of the engine that say nothing about offload."""


def report(
    stats: Stats, seconds: float | None = None, mark: Callable[[str], str] | None = None
) -> str:
    """Return a report of several lines: datagrams received, relayed and lost, by reason.

    Args:
        stats: the counters.
        seconds: the length of the run, for a final report.
        mark: changes the lines of a rule that has an alarm, such as by a colour.
    """
    lines = [] if seconds is None else [f"ran {seconds:.1f} s"]
    lines += map(printable, map(interface_line, stats.interfaces))
    lines += class_lines(stats)
    for rule in stats.rules:
        own = map(printable, _rule_lines(rule))
        lines += map(mark, own) if mark is not None and rule.alarms else own
    lines += [
        printable(f"balance broken, please report this: {text}") for text in stats.imbalances()
    ]
    return "\n".join(lines)


def daemon_report(stats: DaemonStats, mark: Callable[[str], str] | None = None) -> str:
    """Return a report with the sums of all interfaces and rules first; `mark` as of `report`."""
    return f"{_sums(stats)}\n{report(stats, mark=mark)}".rstrip("\n")


def sums_report(stats: DaemonStats) -> str:
    """Return the first part of `daemon_report`: the sums, and a line for each interface."""
    lines = [*map(printable, map(interface_line, stats.interfaces)), *class_lines(stats)]
    return "\n".join([_sums(stats), *lines])


def final_report(stats: DaemonStats) -> str:
    """Return the report with which a daemon ends: `daemon_report`, or its sums for many rules."""
    return daemon_report(stats) if len(stats.rules) < RULES_LISTED else _sums(stats)


def class_lines(stats: Stats) -> list[str]:
    """Return a line for each class of traffic, if there are classes."""
    return [
        f"class {each.name} (priority {each.priority}, weight {each.weight}):"
        f" {counted(each.rules)}, sent {each.sent} of {each.wanted}"
        f" ({bytes_text(each.sent_bytes)}), lost {each.lost}"
        f"{_reasons({'class_limited': each.class_limited})}"
        for each in stats.classes
    ]


def relayer(rule: RuleStats | RuleInfo) -> str:
    """Return who relays a rule, with a word for why if that is the engine and not the kernel."""
    why = rule.offload_reason
    return f"{rule.offload} ({why})" if why not in (None, *_ORDINARY) else rule.offload


def interface_line(interface: InterfaceStats) -> str:
    """Return the counters of an interface in one line."""
    losses = _reasons(interface.dropped)
    kernel = interface.kernel_dropped_frames
    ended = f", receiving ended with {interface.error}" if interface.error else ""
    return (
        f"{interface.name} ({interface.ingress}): received {interface.received}, "
        f"matched {interface.matched}, kernel dropped {kernel} frames{losses}{ended}"
    )


def bits_text(bits_per_s: float) -> str:
    """Return a bit rate with a decimal prefix, such as ``1.5 Gbit/s``."""
    return _scaled(bits_per_s, "bit/s")


def bytes_text(count: int) -> str:
    """Return a number of bytes with a decimal prefix, such as ``9.8 kB``."""
    return _scaled(count, "B")


def endpoint_text(address: str, port: int) -> str:
    """Return an address with a port, such as ``[2001:db8::7]:7000``."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def time_text(us: float) -> str:
    """Return a number of microseconds with a suitable unit, such as ``1.2 ms``."""
    if us < _KILO:
        return f"{us:.0f} us"
    return f"{us / _KILO:.1f} ms" if us < _KILO**2 else f"{us / _KILO**2:.1f} s"


def latency_text(rule: RuleStats) -> str | None:
    """Return how long the datagrams of a rule take; None if nothing is known."""
    latency = rule.latency
    if latency is None:
        return None
    p50, p99, longest = latency.p50_us, latency.p99_us, latency.max_us
    if p50 is not None and p99 is not None and longest is not None:
        times = f"p50 {time_text(p50)}, p99 {time_text(p99)}, max {time_text(longest)}"
        return f"{times} of {latency.samples} datagrams"
    return "none (relayed by the kernel)" if rule.offload == "kernel" else None


def _rule_lines(rule: RuleStats) -> Iterator[str]:
    name = f" ({rule.name})" if rule.name else ""
    yield f"rule {rule.id}{name}: {rule.rule}"
    by = "" if rule.offload_reason in _ORDINARY else f", by the {relayer(rule)}"
    yield f"  {rule.state}; matched {rule.matched} ({bytes_text(rule.matched_bytes)}){by}"
    latency = latency_text(rule)
    if latency is not None:
        yield f"  latency: {latency}"
    if rule.merge is not None:
        yield from (f"  {line}" for line in merge_lines(rule.merge))
    if rule.offload_detail is not None:
        yield f"  not relayed by the kernel: {rule.offload_detail}"
    for output in rule.outputs:
        losses = _reasons({**output.dropped, "pending": output.pending})
        refused = f", refused {output.refused}" if output.refused else ""
        way = ", by xdp" if output.way == "xdp" else ""
        yield (
            f"  {_place(output)}: sent {output.sent} of {output.wanted} "
            f"({bytes_text(output.sent_bytes)}), lost {output.lost}{losses}{refused}{way}"
        )


def _sums(stats: DaemonStats) -> str:
    totals = stats.totals
    lost: dict[str, int] = {}
    for output in (output for rule in stats.rules for output in rule.outputs):
        for reason, count in output.dropped.items():
            lost[reason] = lost.get(reason, 0) + count
    # Interfaces count for all rules, also removed ones and others than these.
    return (
        f"interfaces: received {totals.received}, matched {totals.matched}, kernel dropped"
        f" {totals.kernel_dropped_frames} frames{_reasons(totals.dropped)}\n"
        f"{counted(len(stats.rules))} at revision {stats.revision}: sent {totals.sent} of"
        f" {totals.wanted}, lost {totals.lost}{_reasons(lost)}"
    )


def _place(output: OutputStats) -> str:
    """The output, with the address that its host name resolved to."""
    known = output.address in output.output
    return output.output if known else f"{output.output} ({output.address})"


def _reasons(counts: Mapping[str, int]) -> str:
    found = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    return f" [{found}]" if found else ""


def _scaled(value: float, unit: str) -> str:
    for prefix in ("", "k", "M", "G"):
        if value < _KILO:
            return f"{value:.0f} {unit}" if not prefix else f"{value:.1f} {prefix}{unit}"
        value /= _KILO
    return f"{value:.1f} T{unit}"
