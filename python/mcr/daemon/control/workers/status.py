"""The status of rules from the events of workers: waiting inputs and parked outputs.

Publishes each change of a rule or interface as one event, even if several workers report it, and
passes workers' log lines on to the log.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from ....alarms.troubles import Trouble, trouble_notices
from ....log_levels import NUMBERS, logger_of
from ....rules.spec import rule_of_leg
from ....stats.rule_state import InputTrouble
from .. import limits
from ..events import EventBus
from ..rules.draft import RuleRecord
from .messages import RuleTrouble, WorkerMessage

_LINK_CHANGES = {
    "appeared": "has appeared",
    "vanished": "was removed",
    "up": "is up",
    "down": "is down",
    "carrier": "has a carrier",
    "no_carrier": "has no carrier",
    "renamed": "has another name",
    "altnames": "has other alternative names",
    "addresses": "has other addresses",
    "mtu": "has another MTU",
}
_DEFERRED_REPORTS = 4 * limits.REQUEST_RULES
"""The most deferred reports; only a faulty worker sends more during a change."""


class RuleStatusTracker:
    """The troubles of each rule in each worker."""

    def __init__(self, bus: EventBus) -> None:
        """Start without troubles.

        Args:
            bus: where changes are published.
        """
        self._events = bus
        self._troubles: dict[int, dict[str, Trouble]] = {}
        self._deferred: list[tuple[int, RuleTrouble]] | None = None

    def get(self, rule_id: str) -> Trouble:
        """The troubles of a rule in any worker; of several reasons, one counts. Thread-safe."""
        trouble, parked, engine = Trouble()
        for known in list(self._troubles.values()):
            worker_trouble, worker_parked, worker_engine = known.get(rule_id, Trouble())
            trouble = trouble or worker_trouble
            engine = engine or worker_engine
            longest = max(len(parked), len(worker_parked))
            padded = [(*each, *(None,) * (longest - len(each))) for each in (parked, worker_parked)]
            parked = tuple(one or other for one, other in zip(*padded, strict=True))
        return Trouble(trouble, parked, engine)

    def update(self, number: int, message: WorkerMessage, rules: Mapping[str, RuleRecord]) -> None:
        """Handle an event of a worker.

        Args:
            number: the worker's number.
            message: the event.
            rules: all rules by id; events about other rules are ignored.
        """
        event = message.get("event")
        if event == "rules":
            self._update_rules(number, message.get("rules", []), rules)
        elif event == "link":
            self._publish_link(message)
        elif event == "log":
            level, text = NUMBERS[message.get("level", "info")], message.get("text", "")
            logger = logger_of(message.get("facility", "worker"))
            logger.log(level, "worker %d: %s", number, text, extra={"worker": number})
        elif event == "engine":
            reason = message.get("error")
            text = "worker %d: engine ended: %s"
            logger_of("worker").critical(text, number, reason, extra={"worker": number})

    @contextmanager
    def deferred(self, rules: Callable[[], Mapping[str, RuleRecord]]) -> Iterator[None]:
        """Defer events about rules to the end of the block, and use the rules in force then.

        During a change, workers report on its rules before the rulebook contains them.
        """
        self._deferred = []
        try:
            yield
        finally:
            waiting, self._deferred = self._deferred, None
            for number, report in waiting:
                self._update_rule(number, report, rules())

    def forget_worker(self, number: int) -> None:
        """Discard the troubles in a worker; its successor reports them again."""
        self._troubles.pop(number, None)

    def forget_rules(self, rule_ids: tuple[str, ...]) -> None:
        """Discard the troubles of removed rules."""
        for known in self._troubles.values():
            for own in [each for each in known if rule_of_leg(each) in rule_ids]:
                known.pop(own, None)

    def _update_rules(
        self, number: int, reports: Sequence[RuleTrouble], rules: Mapping[str, RuleRecord]
    ) -> None:
        for report in reports:
            if self._deferred is None:
                self._update_rule(number, report, rules)
            elif len(self._deferred) < _DEFERRED_REPORTS:
                self._deferred.append((number, report))

    def _update_rule(
        self, number: int, report: RuleTrouble, rules: Mapping[str, RuleRecord]
    ) -> None:
        rule_id = report["id"]
        record = rules.get(rule_of_leg(rule_id))
        if record is None:
            return
        before = self.get(rule_id)
        parked = tuple(report["parked"][: len(record.resolved.outputs)])
        known = self._troubles.setdefault(number, {})
        trouble, engine = report["trouble"], report.get("engine_sentence")
        if trouble is None and engine is None and not any(parked):
            known.pop(rule_id, None)
        else:
            known[rule_id] = Trouble(trouble and InputTrouble(**trouble), parked, engine)
        if rule_id == record.rule.id:
            self._publish_changes(record, before, self.get(rule_id))

    def _publish_changes(self, record: RuleRecord, before: Trouble, after: Trouble) -> None:
        for notice in trouble_notices(record, before, after):
            self._events.publish(notice.kind, notice.event, notice.text, **notice.fields)
            notice.log()

    def _publish_link(self, message: WorkerMessage) -> None:
        change = message.get("change", "")
        if change not in _LINK_CHANGES:
            return
        name, detail = message.get("name", ""), message.get("detail", "")
        phrase = _LINK_CHANGES[change]
        if change == "addresses" and not detail:
            phrase = "has no address any more"
        text = f"{name} {phrase}{f': {detail}' if detail else ''}"
        index = message.get("index", 0)
        self._events.publish("interface", change, text, interface=name, index=index)
        logger_of("interfaces").info("%s", text)
