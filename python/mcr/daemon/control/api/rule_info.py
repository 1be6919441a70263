"""The information about a rule in answers, from the records and counters of control."""

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from ....alarms.troubles import Trouble
from ....protocol.results import RuleInfo, RuleOutputInfo
from ....rules import Rule
from ....rules.objects import text_or_object
from ....stats import RuleFacts, RuleStats
from ..rules.draft import RuleRecord, RuleSetAside
from ..workers.counter_reader import new_rule_state


def info_aside(aside: RuleSetAside) -> RuleInfo:
    """A rule that does not fit this host."""
    return RuleInfo(
        id=aside.rule.id,
        name=aside.rule.name,
        rule=str(aside.rule),
        enabled=aside.enabled,
        state=f"does not fit this host now: {aside.why}",
        outputs=tuple(
            RuleOutputInfo(str(output), output.effective_ttl, parked=None)
            for output in aside.rule.outputs
        ),
        state_code="unresolved",
        facts=RuleFacts(obstacle=aside.why),
        origin=aside.origin,
        object=_object(aside.rule),
    )


def new_info(record: RuleRecord, troubles: Trouble) -> RuleInfo:
    """A rule that has counted nothing yet."""
    written = record.rule.outputs
    texts = [(str(written[at - 1]), each.ttl) for at, each in record.resolved.numbered]
    outputs = (
        RuleOutputInfo(output, ttl, parked=reason)
        for (output, ttl), reason in zip_longest(texts, troubles.parked[: len(texts)])
    )
    return _rule_info(record, new_rule_state(record, troubles), outputs)


def info_of(record: RuleRecord, stats: RuleStats) -> RuleInfo:
    """A rule that workers have, with its statistics."""
    pairs = zip(record.resolved.outputs, stats.outputs, strict=True)
    outputs = (
        RuleOutputInfo(
            output=output.output,
            ttl=resolved.ttl,
            parked=output.parked,
            way=output.way,
            way_reason=output.way_reason,
            last_loss=output.last_loss,
            last_refused=output.last_refused,
        )
        for resolved, output in pairs
    )
    return _rule_info(record, stats, outputs)


def _rule_info(record: RuleRecord, stats: RuleStats, outputs: Iterable[RuleOutputInfo]) -> RuleInfo:
    return RuleInfo(
        id=stats.id,
        name=stats.name,
        rule=stats.rule,
        enabled=record.enabled,
        state=stats.state,
        outputs=tuple(outputs),
        state_code=stats.state_code,
        facts=stats.facts,
        alarms=stats.alarms,
        offload=stats.offload,
        offload_reason=stats.offload_reason,
        offload_detail=stats.offload_detail,
        origin=record.origin,
        object=_object(record.rule),
    )


def _object(rule: Rule) -> dict[str, Any] | None:
    """The rule as an object, if no rule text can express it; else None."""
    form = text_or_object(rule)
    return None if isinstance(form, str) else form
