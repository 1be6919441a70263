"""The status of rules as workers report it: waiting rules, parked outputs, links, log lines.

Owns how that becomes events, of which there is one however many workers say the same.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from .. import limits
from ..events import EventBus
from ..rules.draft import RuleRecord
from .messages import RuleNews, WorkerMessage

_LINK_CHANGES = {
    "appeared": "has appeared",
    "vanished": "is gone",
    "up": "is up",
    "down": "is down",
    "carrier": "has a carrier",
    "no_carrier": "has no carrier",
    "renamed": "has another name",
    "altnames": "has other alternative names",
    "addresses": "has other addresses",
    "mtu": "has another MTU",
}
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_FACILITIES = {"worker": "workers", "interface": "interfaces", "socket": "workers"}
_HELD_BACK = 4 * limits.REQUEST_RULES
"""News of rules that wait for the end of a change; of more, only a worker gone wrong has any."""
Trouble = tuple[str | None, tuple[str | None, ...]]
"""Why a rule's input waits, and why each of its outputs is parked."""


class RuleStatusTracker:
    """What is known of each rule's troubles, by worker."""

    def __init__(self, bus: EventBus) -> None:
        """Nothing is known yet."""
        self._events = bus
        self._troubles: dict[int, dict[str, Trouble]] = {}
        self._held_back: list[tuple[int, RuleNews]] | None = None

    def get(self, rule_id: str) -> Trouble:
        """What keeps a rule from working in any worker; the first that says so counts.

        May be called by any thread.
        """
        trouble: str | None = None
        parked: tuple[str | None, ...] = ()
        for known in list(self._troubles.values()):
            waits, outputs = known.get(rule_id, (None, ()))
            trouble = trouble or waits
            longest = max(len(parked), len(outputs))
            padded = [(*each, *(None,) * (longest - len(each))) for each in (parked, outputs)]
            parked = tuple(one or other for one, other in zip(*padded, strict=True))
        return trouble, parked

    def update(self, number: int, message: WorkerMessage, rules: Mapping[str, RuleRecord]) -> None:
        """Take what a worker tells by itself."""
        event = message.get("event")
        if event == "rules":
            self._take_rules(number, message.get("rules", []), rules)
        elif event == "link":
            self._take_link(message)
        elif event == "log":
            facility = _FACILITIES[message.get("facility", "worker")]
            level = _LEVELS[message.get("level", "info")]
            text = message.get("text", "")
            logging.getLogger(f"mcr.{facility}").log(level, "worker %d: %s", number, text)
        elif event == "engine":
            why = message.get("error")
            logging.getLogger("mcr.workers").error("worker %d: engine ended: %s", number, why)

    @contextmanager
    def deferred(self, rules: Callable[[], Mapping[str, RuleRecord]]) -> Iterator[None]:
        """Take news of rules only when the block is over, by the rules that there are then.

        Workers know the rules of a change before it is real.
        """
        self._held_back = []
        try:
            yield
        finally:
            waiting, self._held_back = self._held_back, None
            for number, news in waiting:
                self._take_rule(number, news, rules())

    def forget_worker(self, number: int) -> None:
        """Its successor tells anew."""
        self._troubles.pop(number, None)

    def forget_rules(self, rule_ids: tuple[str, ...]) -> None:
        """These are gone."""
        for known in self._troubles.values():
            for rule_id in rule_ids:
                known.pop(rule_id, None)

    def _take_rules(
        self, number: int, every: Sequence[RuleNews], rules: Mapping[str, RuleRecord]
    ) -> None:
        for news in every:
            if self._held_back is None:
                self._take_rule(number, news, rules)
            elif len(self._held_back) < _HELD_BACK:
                self._held_back.append((number, news))

    def _take_rule(self, number: int, news: RuleNews, rules: Mapping[str, RuleRecord]) -> None:
        rule_id = news["id"]
        held = rules.get(rule_id)
        if held is None:
            return
        before = self.get(rule_id)
        parked = tuple(news["parked"][: len(held.resolved.outputs)])
        known = self._troubles.setdefault(number, {})
        if news["trouble"] is None and not any(parked):
            known.pop(rule_id, None)
        else:
            known[rule_id] = (news["trouble"], parked)
        self._tell(held, before, self.get(rule_id))

    def _tell(self, held: RuleRecord, before: Trouble, after: Trouble) -> None:
        name, rule_id = held.rule.name, held.rule.id
        label = name or rule_id
        if (before[0] is None) != (after[0] is None):
            waits = after[0] is not None
            event = "waiting" if waits else "resumed"
            text = f"rule {label} waits: {after[0]}" if waits else f"rule {label} receives again"
            self._events.publish("rule", event, text, id=rule_id, name=name)
        for at, resolved in enumerate(held.resolved.outputs):
            was = before[1][at] if at < len(before[1]) else None
            now = after[1][at] if at < len(after[1]) else None
            if (was is None) == (now is None):
                continue
            number = resolved.number
            event = "unparked" if now is None else "parked"
            text = f"output {number} of rule {label} " + (
                "sends again" if now is None else f"is parked: {now}"
            )
            self._events.publish("rule", event, text, id=rule_id, name=name, output=number)

    def _take_link(self, message: WorkerMessage) -> None:
        change = message.get("change", "")
        if change not in _LINK_CHANGES:
            return
        name, detail = message.get("name", ""), message.get("detail", "")
        says = _LINK_CHANGES[change]
        if change == "addresses" and not detail:
            says = "has no address any more"
        text = f"{name} {says}{f': {detail}' if detail else ''}"
        index = message.get("index", 0)
        self._events.publish("interface", change, text, interface=name, index=index)
        logging.getLogger("mcr.interfaces").info("%s", text)
