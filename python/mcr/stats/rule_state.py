"""The sentence that says how a rule is doing.

Owns its words. A sentence is made of what happens now: what has ended is told with its age, or not
at all, and stays in the counters. Knows neither the engine that sees nor the rules themselves:
addresses are text here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

SILENT_AFTER_MS = 2_000
"""A rule whose last datagram is older than this is called silent, not flowing."""
RECENT_MS = 5_000
"""What an output lost or was refused longer ago than this stands in its counters only."""
_RECENTLY = f"in the last {RECENT_MS // 1000} s"


@dataclass(frozen=True, slots=True)
class Taker:
    """A more specific rule that has taken datagrams.

    `age_ms` is the age of the last of them; `all_shared` says that each of them would have been
    for the other rule too.
    """

    label: str
    age_ms: int
    all_shared: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleStatus:
    """What is known of a rule's input when its state is put into words.

    `group` may be a block of groups and `ports` a range, as rules write them. `group_seen` counts
    the datagrams for the rule's address on its interface that no rule took; `group_seen_age_ms` is
    the age of the last of them, `other_port` and `other_source` are the last port without a rule
    and the last source that source lists refused among them. `last_seen_age_ms` is the age of the
    last match. `trouble` is the engine's word on an input that waits for its interface.
    `taker` is a more specific rule that may have what this one lacks.
    """

    interface: str
    group: str
    ports: str
    joined: bool
    sources: Sequence[str] = ()
    vlan: int = 0
    matched: int = 0
    last_source: str | None = None
    last_seen_age_ms: int | None = None
    group_seen: int = 0
    group_seen_age_ms: int | None = None
    other_port: int | None = None
    other_source: str | None = None
    trouble: str | None = None
    enabled: bool = True
    taker: Taker | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it takes nothing now, so that `taker` matters."""
        is_flowing = self.matched > 0 and (self.last_seen_age_ms or 0) < SILENT_AFTER_MS
        return self.enabled and not (self.trouble or is_flowing)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputStatus:
    """What is known of an output when the state of its rule is put into words.

    `parked` says why nothing is sent now. `lost_reason` is that of the last copy lost, such as
    `send_error (EPERM)`, and `lost_age_ms` its age; `refused_age_ms` is the age of the last answer
    that nobody listens.
    """

    parked: str | None = None
    lost_reason: str | None = None
    lost_age_ms: int | None = None
    refused_age_ms: int | None = None


def rule_state(sight: RuleStatus, outputs: Sequence[OutputStatus] = ()) -> str:
    """Return the sentence that answers "where did my datagram go" for one rule.

    First what arrives (or the nearest thing to it that does), then what each output lost just now.
    """
    arrival: list[str | None]
    if sight.enabled:
        arrival = [sight.trouble or (_flow(sight) if sight.matched else _absence(sight))]
    else:
        arrival = ["disabled", sight.trouble]
    troubles = (_trouble(number, output) for number, output in enumerate(outputs, start=1))
    return "; ".join(part for part in (*arrival, *troubles) if part)


def _flow(sight: RuleStatus) -> str:
    age_ms = sight.last_seen_age_ms or 0
    if age_ms < SILENT_AFTER_MS:
        return f"flowing from {sight.last_source}" if sight.last_source else "flowing"
    last = f", last from {sight.last_source}" if sight.last_source else ""
    text = f"silent for {age_ms // 1000} s{last}"
    taker = sight.taker
    if taker is not None and taker.all_shared and taker.age_ms < age_ms:
        text += f"; the more specific rule {taker.label} has what came since"
    return text


def _absence(sight: RuleStatus) -> str:
    taker = sight.taker
    if taker is not None and taker.all_shared:
        seen = _seen(taker.age_ms)
        return f"frames for {sight.group} {seen}, taken by the more specific rule {taker.label}"
    seen = _seen(sight.group_seen_age_ms)
    is_over = seen != "seen"
    if sight.sources and sight.other_source is not None:
        wanted = " or ".join(sight.sources)
        return (
            f"frames for {sight.group} {seen}, none from {wanted} (last from {sight.other_source})"
        )
    if sight.other_port is not None:
        arrives = f"{sight.group} {'arrived' if is_over else 'arrives'} for port {sight.other_port}"
        return f"frames {seen}, none for port {sight.ports} ({arrives})"
    if sight.group_seen and sight.vlan:
        return f"frames for {sight.group} {seen}, none with VLAN tag {sight.vlan}"
    if sight.group_seen:
        return f"frames for {sight.group} {seen}, none without a VLAN tag"
    text = f"{'joined' if sight.joined else 'bound'}, no frame seen on {sight.interface}"
    return f"{text} but those of the more specific rule {taker.label}" if taker else text


def _seen(age_ms: int | None) -> str:
    if age_ms is None or age_ms < SILENT_AFTER_MS:
        return "seen"
    return f"seen {age_ms // 1000} s ago"


def _trouble(number: int, output: OutputStatus) -> str:
    if output.parked:
        return f"output {number} parked: {output.parked}"
    if output.lost_reason and _is_recent(output.lost_age_ms):
        return f"output {number} lost copies {_RECENTLY}: {output.lost_reason}"
    if _is_recent(output.refused_age_ms):
        return f"output {number} was refused {_RECENTLY}: nobody listens there, or no such host"
    return ""


def _is_recent(age_ms: int | None) -> bool:
    return age_ms is not None and age_ms < RECENT_MS
