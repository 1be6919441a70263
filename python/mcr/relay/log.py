"""What a relay without a daemon logs: changes of its rules, and warnings, each once.

Its records go to `logging.getLogger("mcr")`; those of events come from `event_watch`.
"""

import logging
import threading
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..alarms.notice import Notice, label, rule_fields
from ..choices import Facility
from ..log_levels import logger_of
from ..repeats import RepeatCounter, with_repeats
from ..rules.host_change import HostChange
from .active_rules import CountedRule

RULES_AT_ONCE = 20
"""The most rules of a change that are named one by one."""

_PACKAGE = logging.getLogger("mcr")
_PACKAGE.addHandler(logging.NullHandler())  # else Python prints to standard error


def is_logged() -> bool:
    """Whether a handler takes the records of this package, so that losses have to be looked for."""
    logger: logging.Logger | None = _PACKAGE
    while logger is not None:
        if any(not isinstance(each, logging.NullHandler) for each in logger.handlers):
            return _PACKAGE.isEnabledFor(logging.WARNING)
        logger = logger.parent if logger.propagate else None
    return False


class _Record(NamedTuple):
    facility: Facility
    level: int
    text: str
    fields: Mapping[str, object]

    def log(self, repeats: int = 0) -> None:
        text = with_repeats(self.text, repeats)
        logger_of(self.facility).log(self.level, "%s", text, extra=dict(self.fields))


class RelayLog:
    """The log of one relay. Any thread may use it.

    The same record is logged once a second; `report_suppressed` logs how many were left out.
    """

    def __init__(self) -> None:
        """Have no rules yet."""
        self._lock = threading.Lock()
        self._repeats = RepeatCounter[_Record]()
        self._rules: Mapping[str, CountedRule] = {}
        self._warned = set[str]()

    def rules(self, rules: Iterable[CountedRule]) -> None:
        """Log how these rules differ from those before."""
        now = {each.rule.id: each for each in rules}
        with self._lock:
            before, self._rules = self._rules, now
        known = [(before[each], now[each]) for each in now.keys() & before.keys()]
        turned = [new for old, new in known if old.enabled != new.enabled]
        self._changed([before[each] for each in before if each not in now], "removed")
        self._changed([now[each] for each in now if each not in before], "added")
        self._changed([new for old, new in known if str(old.rule) != str(new.rule)], "edited")
        self._changed([each for each in turned if each.enabled], "enabled")
        self._changed([each for each in turned if not each.enabled], "disabled")

    def warnings(self, warnings: Iterable[str]) -> None:
        """Log those of the warnings that are new."""
        with self._lock:
            new = [each for each in warnings if each not in self._warned]
            self._warned.update(new)
        for warning in new:
            self._log(_Record("interfaces", logging.WARNING, warning, {}))

    def hosts(self, changes: Iterable[HostChange]) -> None:
        """Log what resolving host names again has found."""
        for each in changes:
            level = logging.WARNING if each.error else logging.INFO
            self._log(_Record("rules", level, str(each), {}))

    def notice(self, notice: Notice) -> None:
        """Log an event."""
        fields = notice.record_fields
        self._log(_Record(notice.facility, notice.log_level, notice.text, fields))

    def report_suppressed(self, *, at_once: bool = False) -> None:
        """Log how many records were suppressed in the seconds that are over.

        Args:
            at_once: also in those that are not over, before the relay ends.
        """
        with self._lock:
            due = list(self._repeats.due(at_once=at_once))
            forgotten = self._repeats.take_forgotten()
        for record, suppressed in due:
            record.log(suppressed)
        if forgotten:
            _Record("rules", logging.WARNING, "other messages", {}).log(forgotten)

    def _changed(self, rules: list[CountedRule], what: str) -> None:
        if len(rules) > RULES_AT_ONCE:
            self._log(_Record("rules", logging.INFO, f"{len(rules)} rules were {what}", {}))
            return
        for each in rules:
            text = f"rule {label(each.rule)} was {what}"
            self._log(_Record("rules", logging.INFO, text, rule_fields(each.rule)))

    def _log(self, record: _Record) -> None:
        with self._lock:
            repeats = self._repeats.accept(record[:3], lambda: record)
        if repeats is not None:
            record.log(repeats)
