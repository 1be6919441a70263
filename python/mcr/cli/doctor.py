"""The command `mcr doctor`: obstacles to relaying on this host, each with the fix."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from ..client import Client
from ..doctor import Finding, diagnose, repair
from ..doctor.running import check_running
from ..errors import McrError
from ..protocol.results import DaemonStats, FlowList, RuleInfo
from ..protocol.text import printable
from ..rules import Rule, parse_rules
from ..rules.grammar import join_arguments
from ..rules.objects import rule_from_object
from .options import SocketOption
from .progress import progress

_FLOWS = 10_000
_DAEMON_S = 10.0  # a daemon that hangs is no reason to wait longer


def doctor(
    rules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RULE",
            help="The rules to check, as for mcr relay, or by id, name or pattern those of the"
            " daemon.",
        ),
    ] = None,
    interface: Annotated[
        list[str] | None,
        typer.Option(metavar="IFACE", help="Also check this interface; may be repeated."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings as one JSON object.")
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="Turn GRO on where that is advised; fix nothing else.")
    ] = False,
    socket: SocketOption = None,
) -> int:
    """Find what keeps this host from relaying, with the fix for it.

    Checks rights, the kernel, limits, interfaces and memberships, and changes nothing without
    --fix. If a daemon runs, also what it counts: rules and outputs that receive, send or lose what
    they should not, several senders, and which rules the kernel relays. The exit code is 1 if there
    is a problem or a fix failed.
    """
    texts = rules or []
    named = [] if "to" in texts or any(" " in each for each in texts) else texts
    running = _read_daemon(socket, named)
    parsed = parse_rules(join_arguments(texts) if texts and not named else ())
    if named and isinstance(running, _Running):
        parsed = tuple(map(_rule_of, running.rules))
    with progress("looking at this host"):
        findings = diagnose(*parsed, interfaces=interface or ())
    done: list[str] = []
    failed = False
    if fix:
        done, failed = _repair(findings)
        findings = diagnose(*parsed, interfaces=interface or ())
    if isinstance(running, Finding):
        findings += (running,)
    elif running is not None:
        flows = running.flows.flows
        findings += (*check_running(running.stats, flows), *_relayers(running.rules))
    if as_json:
        print(json.dumps({"findings": [each.as_dict() for each in findings], "fixed": done}))
    else:
        _print(findings, done)
    return int(failed or any(finding.severity == "problem" for finding in findings))


@dataclass(frozen=True, slots=True)
class _Running:
    """What the daemon says of its rules."""

    rules: tuple[RuleInfo, ...]
    stats: DaemonStats
    flows: FlowList


def _read_daemon(socket: str | None, named: Sequence[str]) -> _Running | Finding | None:
    """The rules of the daemon, or those named.

    Without an answer None, or a problem if the daemon was chosen by its socket.
    """
    which = named or None
    try:
        with Client(socket, timeout_s=_DAEMON_S) as client:
            return _Running(
                client.rules(which).rules, client.stats(which), client.flows(which, limit=_FLOWS)
            )
    except (McrError, OSError) as error:
        if named:
            raise
        return None if socket is None else Finding("daemon", "problem", str(error))


def _rule_of(info: RuleInfo) -> Rule:
    return Rule.parse(info.rule) if info.object is None else rule_from_object(info.object)


def _relayers(rules: Sequence[RuleInfo]) -> Iterator[Finding]:
    """A finding for each rule of the daemon, if offload may be used there."""
    for rule in rules:
        if rule.offload == "kernel":
            yield Finding("offload", "ok", f"the kernel relays {rule.name or rule.id}")
        elif rule.offload_detail is not None:
            text = (
                f"the engine relays {rule.name or rule.id}, not the kernel: {rule.offload_detail}"
            )
            yield Finding("offload", "advice", text)


def _repair(findings: tuple[Finding, ...]) -> tuple[list[str], bool]:
    """Make the repairs that are safe.

    Returns:
        A sentence for each repair, and whether one failed.
    """
    done, failed = [], False
    for finding in findings:
        try:
            change = repair(finding)
        except McrError as error:
            print(f"mcr: {error}", file=sys.stderr)
            failed = True
        else:
            done += [change] if change else []
    return done, failed


def _print(findings: tuple[Finding, ...], done: list[str]) -> None:
    for text in done:
        print(f"fixed    {text}")
    for finding in findings:
        print(f"{finding.severity:8} {finding.name}: {printable(finding.text)}")
        if finding.fix:
            print(f"         {finding.fix}")
    count = Counter(finding.severity for finding in findings)
    print(f"problems: {count['problem']}, advice: {count['advice']}, ok: {count['ok']}")
