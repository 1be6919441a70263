"""The request of each method of the protocol, and the conversion of its result.

Pure: a `Call` holds a request and the function that converts its result. Both clients have one
method for each function, with its arguments and documentation.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..errors import ArgumentError
from ..explain.results import DatagramFacts, Explanation
from ..explain.words import datagram_facts
from ..json_codec import JsonObject
from ..protocol.constants import PROTOCOL
from ..protocol.results import (
    ChangeResult,
    ConfigurationResult,
    DaemonConfiguration,
    DaemonStats,
    EventPosition,
    ExplanationList,
    FlowList,
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
    TapStarted,
    WorkerInfo,
    WorkerList,
)
from ..rules import Output, Rule
from ..rules.edit import Options, OutputRef, RuleEdit
from ..rules.host_change import HostChange
from ..rules.objects import text_or_object
from ..rules.shaping import Shaping, shaping_object
from ..taps.filter import TapFilter

T = TypeVar("T")
R = TypeVar("R", bound=JsonObject)
Json = Mapping[str, Any]
NewRule = Rule | str | RuleInfo | Json
"""A rule as a value or text; a `RuleInfo` from a daemon, enabled or not; or an object of the
protocol."""
KnownRule = Rule | RuleInfo | str
"""A rule of the daemon: as a value, or by its id or name."""

DOUBT = (
    "the change may or may not have been made: compare the revision, which was {revision} in its"
    " last answer"
)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and the conversion of its result."""

    method: str
    params: Json
    result: type[JsonObject]
    """The type of the result in the protocol."""
    value: Callable[[Any], T]
    """Converts the result to the returned value."""
    doubt: str = ""
    """The uncertainty if the answer is lost, as a phrase, with ``{revision}`` for the last known
    revision; empty for a request that can safely be repeated."""

    def as_dict(self) -> "Call[dict[str, Any]]":
        """The same request, with its result as a JSON object."""
        return Call(self.method, self.params, self.result, self.result.as_dict, self.doubt)


def hello() -> Call[Hello]:
    """Return facts about the daemon, such as its process and revision, as they are now."""
    return call_of("hello", {"protocol": PROTOCOL, "client": "mcr.Client"}, Hello)


def ping() -> Call[Pong]:
    """Check that the daemon answers."""
    return call_of("ping", {}, Pong)


def rules(which: Iterable[KnownRule] | None = None) -> Call[RuleList]:
    """List all rules or the given ones, oldest first.

    Raises:
        RuleError: the daemon has no such rule.
    """
    return call_of("rules.list", given_members(rules=_ids(which)), RuleList)


def rule(which: KnownRule) -> Call[RuleInfo]:
    """Return one rule.

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
    """Add rules, all or none; returns when all workers relay them.

    Args:
        rules: the rules. One that exists already stays as it is and is listed under `kept`; if its
            name or state differs, a warning says so.
        enabled: whether the rules relay; a `RuleInfo` has its own value.
        expected_revision: change nothing if the rules are at another revision.
        dry_run: check the change and return its effect, without making it.

    Raises:
        RuleError: rules are invalid; `problems` has all of them, under ``rule N``. Nothing has
            changed.
        ConflictError: the rules are at another revision; nothing has changed.
        InterfaceError, RightsError, EngineError: a worker failed; nothing has changed.
        DaemonError: no answer; the text says whether the change may have been made.
    """
    given = given_members(
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
    """Remove rules, all or none; the errors are those of `add_rules`."""
    return _change_known("rules.remove", rules, expected_revision, dry_run)


def remove_rule(
    rule: KnownRule, *, expected_revision: int | None = None, dry_run: bool = False
) -> Call[ChangeResult]:
    """Remove one rule, as `remove_rules` does."""
    return remove_rules([rule], expected_revision=expected_revision, dry_run=dry_run)


def enable_rules(
    rules: Iterable[KnownRule], *, expected_revision: int | None = None, dry_run: bool = False
) -> Call[ChangeResult]:
    """Enable rules, all or none; the errors are those of `add_rules`."""
    return _change_known("rules.enable", rules, expected_revision, dry_run)


def enable_rule(
    rule: KnownRule, *, expected_revision: int | None = None, dry_run: bool = False
) -> Call[ChangeResult]:
    """Enable one rule, as `enable_rules` does."""
    return enable_rules([rule], expected_revision=expected_revision, dry_run=dry_run)


def disable_rules(
    rules: Iterable[KnownRule], *, expected_revision: int | None = None, dry_run: bool = False
) -> Call[ChangeResult]:
    """Disable rules, all or none; they keep their counters, sockets and memberships.

    The errors are those of `add_rules`.
    """
    return _change_known("rules.disable", rules, expected_revision, dry_run)


def disable_rule(
    rule: KnownRule, *, expected_revision: int | None = None, dry_run: bool = False
) -> Call[ChangeResult]:
    """Disable one rule, as `disable_rules` does."""
    return disable_rules([rule], expected_revision=expected_revision, dry_run=dry_run)


def replace_rules(
    rules: Iterable[NewRule], *, expected_revision: int | None = None, dry_run: bool = False
) -> Call[ChangeResult]:
    """Replace all rules of the daemon by these, all or none.

    Rules that stay keep their counters and relay without interruption. The result of `rules()` is
    accepted: each `RuleInfo` says whether its rule is enabled. The errors are those of `add_rules`.
    """
    given = given_members(rules=_new(rules), expected_revision=expected_revision, dry_run=dry_run)
    return _change("rules.replace", given)


def apply_rules(
    rules: Iterable[NewRule],
    *,
    prune: bool = False,
    shaping: Shaping | None = None,
    expected_revision: int | None = None,
    dry_run: bool = False,
) -> Call[ConfigurationResult]:
    """Make these the rules that are wanted, as those of a configuration file, all or none.

    Rules that are there already stay untouched, also where clients have disabled them. Rules that
    came from a configuration and are not among these are removed; those that clients have added
    stay. The errors are those of `add_rules`.

    Args:
        rules: the rules, each with its number in errors.
        prune: also remove the rules that clients have added, and enable what they have disabled.
        shaping: all classes and rates of interfaces that are wanted; None leaves them.
        expected_revision: change nothing if the rules are at another revision.
        dry_run: check the change and return its effect, without making it.
    """
    given = given_members(
        rules=_new(rules),
        prune=prune or None,
        shaping=None if shaping is None else shaping_object(shaping),
        expected_revision=expected_revision,
        dry_run=dry_run,
    )
    return call_of("rules.apply", given, ConfigurationResult, "" if dry_run else DOUBT)


def configuration() -> Call[DaemonConfiguration]:
    """Return the settings that the daemon runs with, and the path of its configuration file."""
    return call_of("config.get", {}, DaemonConfiguration)


def reload(*, prune: bool = False) -> Call[ConfigurationResult]:
    """Have the daemon read its configuration again; returns once the change is made.

    Args:
        prune: as for `apply_rules`.

    Raises:
        RuleError: the configuration is refused, with all problems; nothing has changed.
        McrError: the files cannot be read, or a worker failed; nothing has changed.
    """
    return call_of("config.reload", given_members(prune=prune or None), ConfigurationResult, DOUBT)


def edit_rule(
    rule: KnownRule,
    options: Options = "",
    *,
    set_outputs: Mapping[OutputRef, Options] | None = None,
    add_outputs: Iterable[Output | str] = (),
    remove_outputs: Iterable[OutputRef] = (),
    expected_revision: int | None = None,
    dry_run: bool = False,
) -> Call[ChangeResult]:
    """Edit one rule while it relays: its id, its counters and all that is not named stay.

    An output with other options keeps its counters and gets a new socket. Outputs are named by
    their numbers, from 1 as listed before the edit, or by their text. Options are text such as
    ``ttl=16,dscp=46``, where ``default`` takes one back, or a mapping of constructor arguments,
    where None does. The request and the answer carry the change only.

    Args:
        rule: the rule.
        options: its name or expectation, such as ``expect=2s``.
        set_outputs: other options by outputs.
        add_outputs: further outputs.
        remove_outputs: outputs to remove.
        expected_revision: change nothing if the rules are at another revision.
        dry_run: check the change and return its effect, without making it.

    Raises:
        RuleError: the daemon has no such rule, or the edit is invalid; nothing has changed.
        ConflictError, InterfaceError, RightsError, EngineError, DaemonError: as for `add_rules`.
    """
    edit = RuleEdit.of(
        options, set_outputs=set_outputs, add_outputs=add_outputs, remove_outputs=remove_outputs
    )
    given = {"rule": _id(rule), **edit.as_object()}
    return _change(
        "rules.edit", given | given_members(expected_revision=expected_revision, dry_run=dry_run)
    )


def stats(rules: Iterable[KnownRule] | None = None) -> Call[DaemonStats]:
    """Read the counters of all rules or the given ones, summed over all workers.

    Raises:
        RuleError: the daemon has no such rule.
    """
    return call_of("stats", given_members(rules=_ids(rules)), DaemonStats)


def flows(rules: Iterable[KnownRule] | None = None, *, limit: int = 1000) -> Call[FlowList]:
    """List who sends to all rules or the given ones, those with the most datagrams first.

    Args:
        rules: the rules.
        limit: the largest number of flows to return, 1 to 10000.

    Raises:
        RuleError: the daemon has no such rule.
    """
    return call_of("flows", given_members(rules=_ids(rules), limit=limit), FlowList)


def explain(datagrams: Iterable[DatagramFacts | str]) -> Call[tuple[Explanation, ...]]:
    """Return what the daemon would do with datagrams, and why; it sends nothing.

    Args:
        datagrams: at most 256, as values or in words, such as
            ``10.0.0.5:4000@239.1.1.1%eth0:5001 ttl=4 vlan=7 size=1200``.

    Raises:
        RuleError: a datagram in words is invalid.
    """
    if isinstance(datagrams, str | DatagramFacts) or not isinstance(datagrams, Iterable):
        raise ArgumentError("datagrams are a sequence; write [datagram] for a single one")
    given = {"datagrams": [datagram_facts(each).as_dict() for each in datagrams]}
    return Call("explain", given, ExplanationList, lambda result: result.explanations)


def workers() -> Call[tuple[WorkerInfo, ...]]:
    """List the worker processes, with the state and the last death of each."""
    return Call("workers.list", {}, WorkerList, lambda result: result.workers)


def interfaces() -> Call[tuple[InterfaceInfo, ...]]:
    """List the network interfaces that the daemon sees."""
    return Call("interfaces.list", {}, InterfaceList, lambda result: result.interfaces)


def log_levels() -> Call[LogLevels]:
    """Return the log levels."""
    return call_of("logs.get", {}, LogLevels)


def set_log_level(level: str | None, facility: str | None = None) -> Call[LogLevels]:
    """Set the log level of all facilities or of one.

    Args:
        level: trace, debug, info, notice, warning, error, critical, alert or emergency; None makes
            a facility follow the common level again.
        facility: supervisor, control, worker, ingress, egress, pool, parser, rules, stats,
            interfaces or security; None sets the common level.
    """
    return call_of("logs.set", {"level": level, **given_members(facility=facility)}, LogLevels)


def resolve_hosts() -> Call[tuple[HostChange, ...]]:
    """Resolve the host names of all outputs again, and send to their new addresses.

    Returns:
        The names whose addresses have changed, and those that do not resolve.
    """
    return Call("hosts.resolve", {}, HostChanges, lambda result: result.changes)


def shutdown() -> Call[None]:
    """Shut the daemon down; it sends what it has received, and logs its final report."""
    return Call("shutdown", {}, Nothing, lambda _: None, "it may be shutting down")


def subscribe(kinds: Iterable[str] | None, after: int | None) -> Call[EventPosition]:
    """Subscribe to events on this connection."""
    params = given_members(kinds=None if kinds is None else list(kinds), after=after)
    return call_of("events.subscribe", params, EventPosition)


def start_tap(wanted: TapFilter) -> Call[TapStarted]:
    """Have the workers record datagrams while this connection is open."""
    given = {name: getattr(wanted, name) for name in wanted.__slots__}
    return call_of("taps.start", given_members(**given), TapStarted)


def call_of(method: str, params: Json, result: type[R], doubt: str = "") -> Call[R]:
    """A call that returns the protocol's result unconverted."""
    return Call(method, params, result, lambda result: result, doubt)


def _change(method: str, params: Json) -> Call[ChangeResult]:
    return call_of(method, params, ChangeResult, "" if "dry_run" in params else DOUBT)


def _change_known(
    method: str, rules: Iterable[KnownRule], expected_revision: int | None, dry_run: bool
) -> Call[ChangeResult]:
    given = given_members(rules=_ids(rules), expected_revision=expected_revision, dry_run=dry_run)
    return _change(method, given)


def _new(rules: Iterable[NewRule]) -> list[str | dict[str, Any]]:
    if isinstance(rules, Rule | str | RuleInfo | Mapping) or not isinstance(rules, Iterable):
        raise ArgumentError("rules are a sequence; write [rule] for a single one")
    return [_new_rule(rule) for rule in rules]


def _new_rule(rule: NewRule) -> str | dict[str, Any]:
    if isinstance(rule, str):
        return rule
    if isinstance(rule, RuleInfo):
        form = rule.rule if rule.object is None else dict(rule.object)
        return {"rule": form, "enabled": rule.enabled}
    if isinstance(rule, Mapping):
        return dict(rule)
    if isinstance(rule, Rule):
        return text_or_object(rule)
    raise ArgumentError(f"a rule must be an mcr.Rule or a string, not {type(rule).__name__}")


def _ids(rules: Iterable[KnownRule] | None) -> list[str] | None:
    if isinstance(rules, Rule | RuleInfo | str) or not isinstance(rules, Iterable | None):
        raise ArgumentError("rules are a sequence; write [rule] for a single one")
    return None if rules is None else [_id(rule) for rule in rules]


def _id(rule: KnownRule) -> str:
    if isinstance(rule, str):
        return rule
    if not isinstance(rule, Rule | RuleInfo):
        raise ArgumentError(f"a rule must be an mcr.Rule or a string, not {type(rule).__name__}")
    return rule.id


def given_members(**params: Any) -> dict[str, Any]:  # noqa: ANN401 -- JSON
    """The parameters that differ from the protocol's defaults."""
    defaults = {"enabled": True, "dry_run": False}
    return {
        name: value
        for name, value in params.items()
        if value is not None and value is not defaults.get(name)
    }
