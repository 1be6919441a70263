"""Events as frozen values, as relays and daemons report them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from ..json_codec import Count, JsonError, JsonObject, decode_object
from ..stats.alarm import Alarm

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LossReport(JsonObject):
    """What an output, interface or flow has lost; of an event `many`, what several have lost."""

    counts: Mapping[str, Count]
    """What was lost since the last event about it, by reason."""
    total: Mapping[str, Count] = field(default_factory=dict)
    """What was lost since this loss began."""
    since: float | None = None
    """The Unix time in seconds at which it began."""
    duration_s: float = 0.0
    """The time from then to the last lost copy or frame."""
    id: str | None = None
    """The id of the rule; None of an interface."""
    name: str | None = None
    """The name of that rule."""
    output: Count | None = None
    """The number of the output in its rule, from 1."""
    address: str | None = None
    """The address that the output sends to."""
    interface: str | None = None
    """The interface that lost what arrived."""
    source: str | None = None
    """The sender of the flow whose numbers are missing."""
    source_port: Count | None = None
    """Its port."""
    group: str | None = None
    """The address that it sends to."""
    port: Count | None = None
    """The port that it sends to."""
    of: Count = 1
    """The number of outputs, interfaces and flows that the counts are of."""


@dataclass(frozen=True, slots=True)
class Event(JsonObject):
    """An event in a relay or daemon, or a gap in the received events.

    In JSON the `fields` are members beside the others.
    """

    sequence: Count
    """The event's number, ascending by one over all kinds; of a gap, the last missed number."""
    at: float
    """Unix time, in seconds."""
    kind: str
    """rule, worker, interface, log, alarm, loss or gap."""
    event: str
    """What happened, such as added or died; gap if events were missed."""
    text: str
    """One sentence."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Further members of events of this kind, such as id, number or interface."""

    @property
    def missed(self) -> int | None:
        """The largest possible number of events missed in a gap; None if it is unknown."""
        count = self.fields.get("missed")
        return count if type(count) is int else None

    @property
    def alarm(self) -> Alarm | None:
        """The alarm of an event `raised` or `ended` of the kind alarm; None of others."""
        return self._value(Alarm) if self.kind == "alarm" and "code" in self.fields else None

    @property
    def loss(self) -> "LossReport | None":
        """The loss of an event of the kind loss; None of others."""
        return self._value(LossReport) if self.kind == "loss" else None

    def _value(self, kind: type[T]) -> T | None:
        try:
            return decode_object(kind, dict(self.fields))
        except JsonError:  # of a newer daemon
            return None

    def as_dict(self) -> dict[str, Any]:
        """Return the event in the protocol's form."""
        own = {name: getattr(self, name) for name in _EVENT_MEMBERS}
        return own | dict(self.fields)

    @classmethod
    def from_dict(cls, given: object) -> "Event":
        """Read the output of `as_dict`.

        Raises:
            ValueError: a member is missing or of another type; the text names it.
        """
        members = given if isinstance(given, dict) else {}
        own = {name: value for name, value in members.items() if name in _EVENT_MEMBERS}
        rest = {name: value for name, value in members.items() if name not in _EVENT_MEMBERS}
        return decode_object(cls, own | {"fields": rest})


_EVENT_MEMBERS = tuple(each.name for each in fields(Event) if each.name != "fields")
