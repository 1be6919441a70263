"""What is to be published: an event without its number."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from ..choices import Facility
from ..log_levels import logger_of
from ..rules import Rule
from ..rules.active_rule import HostedRule

NoticeKind = Literal["rule", "alarm", "loss"]


class Notice(NamedTuple):
    """An event about a rule or interface."""

    kind: NoticeKind | Literal["log"]
    """The kind of the event; log for what is a record and no event."""
    event: str
    """What happened, in a word."""
    text: str
    """What happened, in a sentence."""
    fields: Mapping[str, Any]
    """The members of the event beside these."""
    is_warning: bool
    """Whether it reports trouble, not the end of it."""
    subject: Facility | None = None
    """The facility of its record, if that does not follow from the event."""

    @property
    def log_level(self) -> int:
        """The level of its line in the log."""
        return logging.WARNING if self.is_warning else logging.INFO

    @property
    def facility(self) -> Facility:
        """The facility of its line in the log."""
        if self.subject is not None:
            return self.subject
        if self.kind == "loss":
            return "egress" if "output" in self.fields else "ingress"
        return "egress" if self.event in {"parked", "unparked"} else "rules"

    def log(self) -> None:
        """Log it, with the id and the name of its rule."""
        logger_of(self.facility).log(self.log_level, "%s", self.text, extra=self.record_fields)

    @property
    def record_fields(self) -> dict[str, object]:
        """What its record has beside its text."""
        rule = {"rule": self.fields.get("id"), "rule_name": self.fields.get("name")}
        return {"is_event": True, **rule}


@dataclass(frozen=True, slots=True)
class Moment:
    """One time, by two clocks."""

    s: float
    """`time.monotonic`."""
    unix_s: float
    """`time.time`."""

    def unix(self, then_s: float) -> float:
        """The Unix time of a monotonic one, rounded to a hundredth."""
        return round(self.unix_s - (self.s - then_s), 2)


class WatchedRule(HostedRule, Protocol):
    """A rule whose counters are watched."""

    @property
    def keys(self) -> bytes:
        """Those of its outputs, by which their counters are found."""


def label(rule: Rule) -> str:
    """The name of a rule in sentences."""
    return rule.name or rule.id


def rule_fields(rule: Rule) -> dict[str, object]:
    """What a record about a rule has beside its text: its id and its name."""
    return {"rule": rule.id, "rule_name": rule.name}


def duration(seconds: float) -> float:
    """A length of time as events hold it."""
    return round(max(0.0, seconds), 2)
