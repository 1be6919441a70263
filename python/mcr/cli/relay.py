"""The command `mcr relay`: a relay in the foreground, from its command line to its last report."""

import json
import math
import os
import signal
import sys
import threading
import time
from typing import Annotated

import typer

from ..affinity import chosen_cpus
from ..daemon.account import Account, target_account
from ..errors import McrError
from ..relay import Relay
from ..rules.grammar import join_arguments
from ..stats import Stats
from .options import (
    AcceptBadChecksums,
    CpusOption,
    DurationOption,
    HostsOption,
    IngressOption,
    ReportAsJson,
    WorkersOption,
)
from .privileges import drop
from .signals import HeldSignals, hangup_held, signals_held
from .table import INTERVAL_S, View, open_view, rehearse, report
from .usage import usage_of
from .writer import PATIENCE_S, Writer

_REPORT_PATIENCE_S = 3.0  # with a reader who takes nothing of what somebody has asked for


def relay(
    rules: Annotated[
        list[str],
        typer.Argument(
            metavar="RULE",
            help="Where from and where to, as: 239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001 "
            "192.0.2.7:7000. One rule needs no quotes; quote each of several.",
        ),
    ],
    ingress: IngressOption = "auto",
    workers: WorkersOption = 1,
    hosts: HostsOption = "first",
    cpus: CpusOption = None,
    accept_bad_checksums: AcceptBadChecksums = False,
    user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Started as root: the user to become (nobody unless given; root to stay root).",
        ),
    ] = None,
    duration: DurationOption = None,
    as_json: ReportAsJson = False,
) -> int:
    """Relay in the foreground until Ctrl-C, SIGTERM or the end of the duration."""
    with usage_of("--cpus"):
        places = None if cpus is None else chosen_cpus(cpus, workers)
    with usage_of("--user"):
        account = target_account(user)
    made = Relay(
        *join_arguments(rules),
        ingress=ingress,
        workers=workers,
        cpus=places,
        verify_checksums=not accept_bad_checksums,
        hosts=hosts,
    )
    with hangup_held():  # host names are looked up at the start anyway
        return _run(made, account, duration, as_json)


def _run(made: Relay, account: Account | None, seconds: float | None, as_json: bool) -> int:
    # A name server that does not answer must not keep root for long (resolv.conf(5)).
    os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:2")
    try:
        made.open(rights_end=account is not None and account.uid != 0)
        rehearse(made.stats())
        if account is not None:
            drop(account)
        with signals_held() as signals:
            made.start()
            # Not before: root is given up in a process with one thread.
            notices = Writer(sys.stderr)
            _announce(made, notices)
            began_s = time.monotonic()
            _watch(made, signals, None if seconds is None else began_s + seconds, notices)
        made.stop()
        notices.finish(PATIENCE_S)
        _report(made.stats(), time.monotonic() - began_s, as_json)
        made.wait(0)
    finally:
        made.close()
    return 0


def _announce(made: Relay, notices: Writer) -> None:
    lines = [f"warning: {warning}" for warning in made.warnings]
    for rule in made.rules:
        hops = ", ".join(str(output.effective_ttl) for output in rule.outputs)
        lines.append(f"rule {rule.id}: {rule} (ttl {hops})")
    count = len(made.rules)
    noun = "rule" if count == 1 else "rules"
    lines.append(f"ready: {count} {noun}, ingress {made.ingress}")
    notices.write("".join(f"{line}\n" for line in lines))


def _watch(made: Relay, signals: HeldSignals, deadline_s: float | None, notices: Writer) -> None:
    told_warnings = set(made.warnings)
    with open_view(made.stats(), notices) as view:
        while made.error is None:
            left_s = math.inf if deadline_s is None else deadline_s - time.monotonic()
            wait_s = max(0, min(left_s, INTERVAL_S))
            told = signals.take(wait_s)
            if told == signal.SIGHUP:
                # Aside: a slow name server must not keep Ctrl-C waiting.
                threading.Thread(target=_look_up_again, args=(made, view), daemon=True).start()
                continue
            if told is not None or left_s <= INTERVAL_S:
                return
            for warning in made.warnings:
                if warning not in told_warnings:
                    told_warnings.add(warning)
                    view.note(f"warning: {warning}")
            view.show(made.stats())


def _look_up_again(made: Relay, view: View) -> None:
    try:
        changes = made.resolve_hosts()
    except McrError as error:
        view.note(f"warning: host names looked up, nothing changed: {error}")
        return
    for change in changes:
        view.note(f"{'warning: ' if change.error else ''}{change}")
    if not changes:
        view.note("host names looked up: all addresses are as before")


def _report(stats: Stats, seconds: float, as_json: bool) -> None:
    """Write the report, unless who should read it does not."""
    out = Writer(sys.stdout)
    out.write(f"{json.dumps(stats.as_dict()) if as_json else report(stats, seconds)}\n")
    out.finish(_REPORT_PATIENCE_S)
