"""The command `mcr doctor`: obstacles to relaying on this host, each with the fix."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import typer

from ..client import Client
from ..doctor import Finding, diagnose, repair
from ..errors import McrError
from ..rules import parse_rules
from ..rules.grammar import join_arguments
from .options import SocketOption

_DAEMON_S = 2.0  # a daemon that hangs is no reason to wait


def doctor(
    rules: Annotated[
        list[str] | None,
        typer.Argument(metavar="RULE", help="The rules to check, as for mcr relay."),
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
    --fix. Asks the daemon, if one runs, which of its rules the kernel relays. The exit code is 1 if
    there is a problem or a fix failed.
    """
    parsed = parse_rules(join_arguments(rules) if rules else ())
    findings = diagnose(*parsed, interfaces=interface or ())
    done: list[str] = []
    failed = False
    if fix:
        done, failed = _repair(findings)
        findings = diagnose(*parsed, interfaces=interface or ())
    findings += tuple(_of_daemon(socket))
    if as_json:
        print(json.dumps({"findings": [each.as_dict() for each in findings], "fixed": done}))
    else:
        _print(findings, done)
    return int(failed or any(finding.severity == "problem" for finding in findings))


def _of_daemon(socket: str | None) -> Iterator[Finding]:
    """Yield a finding for each rule of the daemon, if offload may be used there."""
    try:
        with Client(socket, timeout_s=_DAEMON_S) as client:
            rules = client.rules().rules
    except (McrError, OSError):
        if socket is not None:
            raise
        return  # none runs here
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
        print(f"{finding.severity:8} {finding.name}: {finding.text}")
        if finding.fix:
            print(f"         {finding.fix}")
    count = Counter(finding.severity for finding in findings)
    print(f"problems: {count['problem']}, advice: {count['advice']}, ok: {count['ok']}")
