"""A change of the rules as others see it: its size for messages and snapshots, and its events."""

import asyncio
from collections.abc import Mapping

from ....log_levels import logger_of
from ....protocol.constants import ErrorCode
from ....rules import Rule
from ....rules.model import counted
from .. import limits
from ..api.errors import RpcError
from ..events import EventBus
from .draft import Draft, RuleRecord, RuleSetAside

_EVENTS_PER_TURN = 100
_ENVELOPE_BYTES = 1 << 20  # of a message or a snapshot, besides the rules
_SPEC_BYTES = 64  # of a rule in a message, besides its members: the id and punctuation

_log = logger_of("rules")


async def report_change(
    events: EventBus,
    draft: Draft,
    before: Mapping[str, RuleRecord | RuleSetAside],
    removed: Mapping[str, Rule],
) -> None:
    """Publish an event for each rule of a change that was made, and log a line.

    Args:
        events: where to publish.
        draft: the change.
        before: all rules before it, by id.
        removed: those that it has removed.
    """
    after: dict[str, RuleRecord | RuleSetAside] = {**draft.rules, **draft.aside}
    turns = [(each, rule, "removed") for each, rule in removed.items()]
    turns += [(each, after[each].rule, turn) for each, turn in draft.changed.items()]
    turns += [
        (each, after[each].rule, "resumed" if each in before else "added") for each in draft.added
    ]
    for at, (rule_id, rule, turn) in enumerate(turns):
        if at % _EVENTS_PER_TURN == 0:
            await asyncio.sleep(0)
        text = f"rule {rule.name or rule_id} {'has' if turn == 'resumed' else 'was'} {turn}"
        events.publish("rule", turn, text, id=rule_id, name=rule.name)
    groups = {"added": draft.added, "removed": removed, "changed": draft.changed}
    counts = [f"{counted(len(ids))} {verb}" for verb, ids in groups.items() if ids]
    if draft.plan.shaping is not None:
        counts.append("other classes or rates of interfaces")
    _log.info("revision %d: %s", draft.revision, ", ".join(counts) or "another order")


def check_size(draft: Draft) -> None:
    """Refuse rules that exceed a snapshot, or a message to a restarted worker.

    Raises:
        RpcError: they do.
    """
    snapshot_bytes = sum(len(record.line) for record in draft.rules.values())
    message_bytes = sum(record.members_bytes + _SPEC_BYTES for record in draft.rules.values())
    for size, limit in ((snapshot_bytes, limits.KEPT_BYTES), (message_bytes, limits.FRAME_BYTES)):
        if size > limit - _ENVELOPE_BYTES:
            message = (
                f"all rules together need {size} bytes, and {limit - _ENVELOPE_BYTES} is the most"
            )
            raise RpcError(ErrorCode.LIMIT, message)
