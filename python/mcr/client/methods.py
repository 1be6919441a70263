"""Every method of the protocol once: what is asked, and how the answer becomes a value.

Pure: a `Call` holds a request and the reader of its result; who sends it is no matter here. Both
clients have one method for each function, with its arguments and its documentation.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..json_codec import JsonObject
from ..protocol.constants import PROTOCOL
from ..protocol.results import (
    ChangeResult,
    DaemonStats,
    EventPosition,
    Hello,
    HostChanges,
    InterfaceInfo,
    InterfaceList,
    LogLevels,
    Nothing,
    Pong,
    RuleInfo,
    RuleList,
    RuleResult,
    WorkerInfo,
    WorkerList,
)
from ..rules import Rule
from ..rules.hostnames import HostChange
from ..rules.objects import text_or_object

T = TypeVar("T")
R = TypeVar("R", bound=JsonObject)
Json = Mapping[str, Any]
NewRule = Rule | str | RuleInfo | Json
"""A rule as a value or as text; one that a daemon has told of, which also says whether it is
enabled; or an object of the protocol, as it is."""
KnownRule = Rule | RuleInfo | str
"""A rule that the daemon has: as a value, or by its id or its name."""

_DOUBT = (
    "the change may or may not have been made: compare the revision, which was {revision} when it"
    " last answered"
)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and what its result means."""

    method: str
    params: Json
    result: type[JsonObject]
    """What the protocol answers."""
    value: Callable[[Any], T]
    """Makes what is returned of the result."""
    doubt: str = ""
    """What nobody knows when the answer is lost, with ``{revision}`` for the last known one; empty
    for what can be asked twice, which is repeated where that helps."""

    def as_dict(self) -> "Call[dict[str, Any]]":
        """The same request, which returns its result as the protocol has it."""
        return Call(self.method, self.params, self.result, self.result.as_dict, self.doubt)


def hello() -> Call[Hello]:
    """Ask who answers; the connection was greeted already, so this only tells what is new."""
    return _call("hello", {"protocol": PROTOCOL, "client": "mcr.Client"}, Hello)


def ping() -> Call[Pong]:
    """Ask whether the daemon is well."""
    return _call("ping", {}, Pong)


def rules(which: Iterable[KnownRule] | None = None) -> Call[RuleList]:
    """List the rules, or only those named, oldest first.

    Raises:
        RuleError: the daemon has no such rule.
    """
    return _call("rules.list", _given(rules=_ids(which)), RuleList)


def rule(which: KnownRule) -> Call[RuleInfo]:
    """Look one rule up.

    Raises:
        RuleError: the daemon has no such rule.
    """
    return Call("rules.get", {"rule": _id(which)}, RuleResult, lambda result: result.rule)


def add_rules(
    rules: Iterable[NewRule],
    *,
    enabled: bool = True,
    expected_revision: int | None = None,
    dry_run: bool = False,
) -> Call[ChangeResult]:
    """Add rules, all or nothing; it answers when every worker relays them.

    Args:
        rules: as values or as text. One that is there already is not touched and is among the
            `kept` of the result; where it has another name or state, a warning says so.
        enabled: False adds them without relaying yet.
        expected_revision: change nothing if the rules are of another revision by now.
        dry_run: judge the change and say what it would do, without doing it.

    Raises:
        RuleError: with everything that is wrong, under ``rule N``; nothing has changed.
        ConflictError: the rules are of another revision than expected; nothing has changed.
        InterfaceError, RightsError, EngineError: a worker could not; nothing has changed.
        DaemonError: no answer; the text says whether the change may have been made.
    """
    given = _given(
        rules=_new(rules), enabled=enabled, expected_revision=expected_revision, dry_run=dry_run
    )
    return _change("rules.add", given)


def add_rule(
    rule: NewRule,
    *,
    enabled: bool = True,
    expected_revision: int | None = None,
    dry_run: bool = False,
) -> Call[ChangeResult]:
    """Add one rule, as `add_rules` does."""
    return add_rules([rule], enabled=enabled, expected_revision=expected_revision, dry_run=dry_run)


def remove_rules(
    rules: Iterable[KnownRule], *, expected_revision: int | None = None, dry_run: bool = False
) -> Call[ChangeResult]:
    """Remove rules, all or nothing; the errors are those of `add_rules`."""
    return _change_known("rules.remove", rules, expected_revision, dry_run)


def remove_rule(
    rule: KnownRule, *, expected_revision: int | None = None, dry_run: bool = False
) -> Call[ChangeResult]:
    """Remove one rule, as `remove_rules` does."""
    return remove_rules([rule], expected_revision=expected_revision, dry_run=dry_run)


def enable_rules(
    rules: Iterable[KnownRule], *, expected_revision: int | None = None, dry_run: bool = False
) -> Call[ChangeResult]:
    """Let rules relay again, all or nothing; the errors are those of `add_rules`."""
    return _change_known("rules.enable", rules, expected_revision, dry_run)


def enable_rule(
    rule: KnownRule, *, expected_revision: int | None = None, dry_run: bool = False
) -> Call[ChangeResult]:
    """Let one rule relay again, as `enable_rules` does."""
    return enable_rules([rule], expected_revision=expected_revision, dry_run=dry_run)


def disable_rules(
    rules: Iterable[KnownRule], *, expected_revision: int | None = None, dry_run: bool = False
) -> Call[ChangeResult]:
    """Stop rules from relaying, all or nothing; they keep their counters, sockets and joins.

    The errors are those of `add_rules`.
    """
    return _change_known("rules.disable", rules, expected_revision, dry_run)


def disable_rule(
    rule: KnownRule, *, expected_revision: int | None = None, dry_run: bool = False
) -> Call[ChangeResult]:
    """Stop one rule from relaying, as `disable_rules` does."""
    return disable_rules([rule], expected_revision=expected_revision, dry_run=dry_run)


def replace_rules(
    rules: Iterable[NewRule], *, expected_revision: int | None = None, dry_run: bool = False
) -> Call[ChangeResult]:
    """Make these the rules of the daemon, all or nothing.

    Rules that stay keep their counters and flow. What `rules()` has answered can be given again,
    changed or not: each `RuleInfo` says whether its rule is enabled. The errors are those of
    `add_rules`.
    """
    given = _given(rules=_new(rules), expected_revision=expected_revision, dry_run=dry_run)
    return _change("rules.replace", given)


def stats(rules: Iterable[KnownRule] | None = None) -> Call[DaemonStats]:
    """Read the counters of all rules, or of those named, over all workers.

    Raises:
        RuleError: the daemon has no such rule.
    """
    return _call("stats", _given(rules=_ids(rules)), DaemonStats)


def workers() -> Call[tuple[WorkerInfo, ...]]:
    """List the worker processes: how each is, and how the last one died."""
    return Call("workers.list", {}, WorkerList, lambda result: result.workers)


def interfaces() -> Call[tuple[InterfaceInfo, ...]]:
    """List the network interfaces that the daemon sees."""
    return Call("interfaces.list", {}, InterfaceList, lambda result: result.interfaces)


def log_levels() -> Call[LogLevels]:
    """Ask what is logged."""
    return _call("logs.get", {}, LogLevels)


def set_log_level(level: str | None, facility: str | None = None) -> Call[LogLevels]:
    """Set what is logged, of all or of one facility.

    Args:
        level: debug, info, warning or error; None lets a facility follow all others again.
        facility: control, rules, workers, interfaces, clients or supervisor; None means all that
            have no level of their own.
    """
    # It may be asked twice: the second time it finds what it wants.
    return _call("logs.set", {"level": level, **_given(facility=facility)}, LogLevels)


def resolve_hosts() -> Call[tuple[HostChange, ...]]:
    """Look the host names of all outputs up again, and follow what has changed.

    Returns:
        The names that have other addresses now, and those that do not resolve.
    """
    return Call("hosts.resolve", {}, HostChanges, lambda result: result.changes)


def shutdown() -> Call[None]:
    """End the daemon: what it has received is still sent, and its last report goes to its log."""
    return Call("shutdown", {}, Nothing, lambda _: None, "it may be ending")


def subscribe(kinds: Iterable[str] | None, after: int | None) -> Call[EventPosition]:
    """Ask for events on this connection."""
    params = _given(kinds=None if kinds is None else list(kinds), after=after)
    return _call("events.subscribe", params, EventPosition)


def _call(method: str, params: Json, result: type[R], doubt: str = "") -> Call[R]:
    """A call that returns its result as it is."""
    return Call(method, params, result, lambda result: result, doubt)


def _change(method: str, params: Json) -> Call[ChangeResult]:
    return _call(method, params, ChangeResult, "" if "dry_run" in params else _DOUBT)


def _change_known(
    method: str, rules: Iterable[KnownRule], expected_revision: int | None, dry_run: bool
) -> Call[ChangeResult]:
    given = _given(rules=_ids(rules), expected_revision=expected_revision, dry_run=dry_run)
    return _change(method, given)


def _new(rules: Iterable[NewRule]) -> list[str | dict[str, Any]]:
    if isinstance(rules, Rule | str | RuleInfo | Mapping):
        raise TypeError("rules are a sequence; write [rule] for a single one")
    return [_new_rule(rule) for rule in rules]


def _new_rule(rule: NewRule) -> str | dict[str, Any]:
    if isinstance(rule, str):
        return rule
    if isinstance(rule, RuleInfo):
        form = rule.rule if rule.object is None else dict(rule.object)
        return {"rule": form, "enabled": rule.enabled}
    if isinstance(rule, Mapping):
        return dict(rule)
    return text_or_object(rule)


def _ids(rules: Iterable[KnownRule] | None) -> list[str] | None:
    if isinstance(rules, Rule | RuleInfo | str):
        raise TypeError("rules are a sequence; write [rule] for a single one")
    return None if rules is None else [_id(rule) for rule in rules]


def _id(rule: KnownRule) -> str:
    return rule if isinstance(rule, str) else rule.id


def _given(**params: Any) -> dict[str, Any]:  # noqa: ANN401 -- JSON
    """The parameters that say something: the protocol's defaults are left out."""
    defaults = {"enabled": True, "dry_run": False}
    return {
        name: value
        for name, value in params.items()
        if value is not None and value is not defaults.get(name)
    }
