"""What a relay without a daemon logs: changes of its rules, and warnings, each once.

Its records go to `logging.getLogger("mcr")`; those of events come from `event_watch`.
"""

import logging
import threading
from collections.abc import Iterable, Mapping

from ..alarms.notice import label
from ..log_levels import logger_of
from ..rules.hostnames import HostChange
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


class RelayLog:
    """The log of one relay. Any thread may use it."""

    def __init__(self) -> None:
        """Have no rules yet."""
        self._lock = threading.Lock()
        self._rules: Mapping[str, CountedRule] = {}
        self._warned = set[str]()

    def rules(self, rules: Iterable[CountedRule]) -> None:
        """Log how these rules differ from those before."""
        now = {each.rule.id: each for each in rules}
        with self._lock:
            before, self._rules = self._rules, now
        known = [(before[each], now[each]) for each in now.keys() & before.keys()]
        turned = [new for old, new in known if old.enabled != new.enabled]
        _log([before[each] for each in before if each not in now], "removed")
        _log([now[each] for each in now if each not in before], "added")
        _log([new for old, new in known if str(old.rule) != str(new.rule)], "edited")
        _log([each for each in turned if each.enabled], "enabled")
        _log([each for each in turned if not each.enabled], "disabled")

    def warnings(self, warnings: Iterable[str]) -> None:
        """Log those of the warnings that are new."""
        with self._lock:
            new = [each for each in warnings if each not in self._warned]
            self._warned.update(new)
        for warning in new:
            logger_of("interfaces").warning("%s", warning)


def log_hosts(changes: Iterable[HostChange]) -> None:
    """Log what resolving host names again has found."""
    for each in changes:
        logger_of("rules").log(logging.WARNING if each.error else logging.INFO, "%s", each)


def _log(rules: list[CountedRule], what: str) -> None:
    logger = logger_of("rules")
    if len(rules) > RULES_AT_ONCE:
        logger.info("%d rules were %s", len(rules), what)
        return
    for each in rules:
        logger.info("rule %s was %s", label(each.rule), what, extra={"rule": each.rule.id})
