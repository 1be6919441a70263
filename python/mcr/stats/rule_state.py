"""The state of a rule, as a code and as a sentence.

Both describe the present. Past events appear with their age, or only in the counters.
Pure: all inputs are plain values, and addresses are text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from .alarm import Alarm

StateCode = Literal[
    "disabled",
    "unresolved",
    "waiting",
    "looping",
    "below_expected",
    "above_expected",
    "degraded",
    "flowing",
    "shadowed",
    "silent",
    "joined",
]
"""A closed list, which only grows. The first that applies:

- `disabled`: a user disabled the rule.
- `unresolved`: something that its input names does not exist, or the kernel refused it.
- `waiting`: the input's interface is down, has no carrier or is not set up.
- `looping`: what the rule has relayed comes back to it.
- `below_expected`: less arrives than the rule expects, or from fewer senders.
- `above_expected`: more senders send than the rule expects.
- `degraded`: an input of a merging rule is down, while another one delivers.
- `flowing`: the last matched datagram is younger than 2 s.
- `shadowed`: a more specific rule matches what this rule would match.
- `silent`: it has matched datagrams, the last one 2 s ago or earlier.
- `joined`: it can receive, and has matched nothing yet.
"""

SILENT_AFTER_MS = 2_000
"""A rule whose last datagram is older than this is silent, not flowing."""
RECENT_MS = 5_000
"""A loss or refusal at an output older than this appears in the counters only."""
_RECENTLY = f"in the last {RECENT_MS // 1000} s"


class InputTrouble(NamedTuple):
    """Why a rule's input cannot receive."""

    state: Literal["unresolved", "waiting"]
    reason: str
    """A sentence, such as "eth0 is down"."""

    def __str__(self) -> str:
        """As a state sentence begins."""
        return f"{self.state}: {self.reason}"


class RuleState(NamedTuple):
    """The state of a rule."""

    code: StateCode
    sentence: str


@dataclass(frozen=True, slots=True)
class MoreSpecificRule:
    """A more specific rule that has matched datagrams."""

    id: str
    label: str
    """The name or text of the rule."""
    age_ms: int
    """The time since its last match."""
    all_shared: bool
    """Whether the other rule would have matched each of its datagrams too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleStatus:
    """The facts about a rule's input that its state describes."""

    interface: str
    group: str
    """The address of the input, or a block, as text."""
    ports: str
    """The port of the input, or a range, as text."""
    joined: bool
    sources: Sequence[str] = ()
    vlan: int = 0
    matched: int = 0
    last_source: str | None = None
    last_seen_age_ms: int | None = None
    """The time since the last match."""
    group_seen: int = 0
    """The datagrams for the input's address on its interface that no rule matched."""
    group_seen_age_ms: int | None = None
    """The time since the last of these."""
    other_port: int | None = None
    """Among these, the last port without a rule."""
    other_source: str | None = None
    """Among these, the last sender that a source list rejected."""
    trouble: InputTrouble | None = None
    """Why the input cannot receive, as the engine reports it."""
    enabled: bool = True
    more_specific: MoreSpecificRule | None = None
    """A rule that may have matched the datagrams that this one lacks."""
    alarms: Sequence[Alarm] = ()
    """The expectations that are not met."""

    @property
    def is_idle(self) -> bool:
        """Whether the rule receives nothing now, so that `more_specific` matters."""
        return self.enabled and not (self.trouble or self.is_flowing)

    @property
    def is_flowing(self) -> bool:
        """Whether the last match is recent."""
        return self.matched > 0 and (self.last_seen_age_ms or 0) < SILENT_AFTER_MS

    @property
    def shadow(self) -> MoreSpecificRule | None:
        """The more specific rule that matches the datagrams that this one lacks, if any does."""
        other = self.more_specific
        if other is None or not other.all_shared or not self.is_idle:
            return None
        is_later = not self.matched or other.age_ms < (self.last_seen_age_ms or 0)
        return other if is_later else None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputStatus:
    """The facts about an output that the state of its rule describes."""

    parked: str | None = None
    """Why nothing is sent now."""
    lost_reason: str | None = None
    """The reason of the last lost copy, such as `send_error`."""
    lost_errno: str | None = None
    """The errno name if that is `send_error`, such as `EPERM`."""
    lost_age_ms: int | None = None
    """The time since that loss."""
    refused_age_ms: int | None = None
    """The time since a host last answered that it has no receiver."""


def rule_state(status: RuleStatus, outputs: Sequence[OutputStatus] = ()) -> RuleState:
    """Return the code, and the sentence that answers "where did my datagram go" for one rule.

    The sentence names first what arrives, or the closest that does, and then the recent losses of
    each output. The code is about the input alone.
    """
    return RuleState(_code(status), _sentence(status, outputs))


def _code(status: RuleStatus) -> StateCode:
    if not status.enabled:
        return "disabled"
    if status.trouble:
        return status.trouble.state
    if any(alarm.code == "loop" for alarm in status.alarms):
        return "looping"
    if any(not alarm.is_harmless for alarm in status.alarms):
        return "below_expected"
    if status.alarms:
        return "above_expected" if any(alarm.is_surplus for alarm in status.alarms) else "degraded"
    if status.is_flowing:
        return "flowing"
    if status.shadow is not None:
        return "shadowed"
    return "silent" if status.matched else "joined"


def _sentence(status: RuleStatus, outputs: Sequence[OutputStatus]) -> str:
    trouble = None if status.trouble is None else str(status.trouble)
    arrival: list[str | None]
    if status.enabled:
        arrival = [
            *map(str, status.alarms),
            trouble or (_flow(status) if status.matched else _absence(status)),
        ]
    else:
        arrival = ["disabled", trouble]
    troubles = (_trouble(number, output) for number, output in enumerate(outputs, start=1))
    return "; ".join(part for part in (*arrival, *troubles) if part)


def _flow(status: RuleStatus) -> str:
    age_ms = status.last_seen_age_ms or 0
    if status.is_flowing:
        return f"flowing from {status.last_source}" if status.last_source else "flowing"
    last = f", last from {status.last_source}" if status.last_source else ""
    text = f"silent for {age_ms // 1000} s{last}"
    if status.shadow is not None:
        text += f"; the more specific rule {status.shadow.label} has matched datagrams since"
    return text


def _absence(status: RuleStatus) -> str:
    group, other, shadow = status.group, status.more_specific, status.shadow
    if shadow is not None:
        seen = _seen(shadow.age_ms)
        return f"frames for {group} {seen}, matched by the more specific rule {shadow.label}"
    seen = _seen(status.group_seen_age_ms)
    if status.sources and status.other_source is not None:
        wanted = " or ".join(status.sources)
        return f"frames for {group} {seen}, none from {wanted} (last from {status.other_source})"
    if status.other_port is not None:
        verb = "arrives" if seen == "seen" else "arrived"
        elsewhere = f"{group} {verb} for port {status.other_port}"
        return f"frames {seen}, none for port {status.ports} ({elsewhere})"
    if status.group_seen and status.vlan:
        return f"frames for {group} {seen}, none with VLAN tag {status.vlan}"
    if status.group_seen:
        return f"frames for {group} {seen}, none without a VLAN tag"
    text = f"{'joined' if status.joined else 'bound'}, no frame seen on {status.interface}"
    return f"{text} except those for the more specific rule {other.label}" if other else text


def _seen(age_ms: int | None) -> str:
    if age_ms is None or age_ms < SILENT_AFTER_MS:
        return "seen"
    return f"seen {age_ms // 1000} s ago"


def _trouble(number: int, output: OutputStatus) -> str:
    if output.parked:
        return f"output {number} parked: {output.parked}"
    if output.lost_reason and _is_recent(output.lost_age_ms):
        errno = f" ({output.lost_errno})" if output.lost_errno else ""
        return f"output {number} lost copies {_RECENTLY}: {output.lost_reason}{errno}"
    if _is_recent(output.refused_age_ms):
        return f"output {number} was refused {_RECENTLY}: no program listens there, or no such host"
    return ""


def _is_recent(age_ms: int | None) -> bool:
    return age_ms is not None and age_ms < RECENT_MS
