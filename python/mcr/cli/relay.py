"""The command `mcr relay`: a relay in the foreground, from its options to its final report."""

import json
import math
import os
import signal
import sys
import threading
import time
from typing import Annotated, NamedTuple

import typer

from .._native import drop_privileges
from ..affinity import chosen_cpus
from ..daemon.account import Account, target_account
from ..errors import McrError, RightsError
from ..log_levels import logger_of
from ..protocol.log_spec import LogSpec
from ..protocol.summary import report
from ..relay.relay import Relay
from ..relay.settings import default_expectation
from ..rules.grammar import join_arguments
from ..stats import Stats
from ..stats.traffic_lines import TrafficLines, TrafficSums
from .log_notes import LogNotes, noted_log
from .options import (
    AcceptBadChecksums,
    CpusOption,
    DurationOption,
    EgressOption,
    ExpectOption,
    FlowsOption,
    HostsOption,
    IngressOption,
    LatencyOption,
    LogLevelOption,
    LogStatsOption,
    OffloadOption,
    ReportAsJson,
    WorkersOption,
)
from .signals import HeldSignals, hangup_held, signals_held
from .usage import usage_of
from .view import INTERVAL_S, View, open_view, rehearse
from .writer import PATIENCE_S, TextWriter

_REPORT_PATIENCE_S = 3.0  # with a reader of the report that has stopped reading
_THREADS_END_S = 20.0  # more than the C library waits for a name with what is asked of it here


def relay(
    rules: Annotated[
        list[str],
        typer.Argument(
            metavar="RULE",
            help="A rule: INPUT to OUTPUT [OUTPUT...], as in the examples. A single rule needs no"
            " quotes; quote each of several.",
        ),
    ],
    ingress: IngressOption = "auto",
    egress: EgressOption = "auto",
    offload: OffloadOption = "off",
    workers: WorkersOption = 1,
    hosts: HostsOption = "first",
    cpus: CpusOption = None,
    accept_bad_checksums: AcceptBadChecksums = False,
    flows: FlowsOption = False,
    latency: LatencyOption = False,
    expect: ExpectOption = None,
    log_level: LogLevelOption = "info",
    log_stats: LogStatsOption = False,
    user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The user to become after opening the sockets, if started as root; root stays"
            " root.  [default: nobody]",
        ),
    ] = None,
    duration: DurationOption = None,
    as_json: ReportAsJson = False,
) -> int:
    """Relay by the given rules in the foreground, until Ctrl-C or SIGTERM.

    The final report goes to standard output, all other messages to standard error.
    """
    with usage_of("--cpus"):
        places = None if cpus is None else chosen_cpus(cpus, workers)
    with usage_of("--user"):
        account = target_account(user)
    with usage_of("--expect"):
        expectation = default_expectation(expect, flows=flows, offload=offload)
    instance = Relay(
        *join_arguments(rules),
        ingress=ingress,
        egress=egress,
        offload=offload,
        workers=workers,
        cpus=places,
        verify_checksums=not accept_bad_checksums,
        flows=flows,
        latency=latency,
        hosts=hosts,
        expect=expectation,
    )
    # Host names are resolved at the start anyway, so a hangup may wait.
    with hangup_held(), noted_log(LogSpec.parse(log_level)) as notes:
        lines = TrafficLines() if log_stats else None
        return _run(instance, account, duration, as_json, LogDisplay(notes, lines))


class LogDisplay(NamedTuple):
    """What a relay shows of its log."""

    notes: LogNotes
    traffic: TrafficLines | None
    """The periodic lines, if they are wanted."""

    def show(self, stats: Stats, view: View) -> None:
        """Show a reading below the records so far."""
        if self.traffic is not None:
            for line in self.traffic.of(TrafficSums.of_stats(stats)):
                logger_of("stats").info("%s", line)
        for text in self.notes.take():
            view.note(text)
        view.show(stats)


def _run(
    instance: Relay, account: Account | None, seconds: float | None, as_json: bool, log: LogDisplay
) -> int:
    # A name server that does not answer must not delay giving up root (resolv.conf(5)).
    os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:2")
    try:
        instance.open(rights_end=account is not None and account.uid != 0)
        rehearse(instance.stats(), as_json=as_json)
        if account is not None:
            _drop_root(account)
        with signals_held() as signals:
            instance.start()
            # Not earlier: a process gives up root while it has one thread.
            notices = TextWriter(sys.stderr)
            _announce(instance, notices)
            log.notes.forget()  # what is announced
            began_s = time.monotonic()
            ends_s = math.inf if seconds is None else began_s + seconds
            _watch(instance, signals, ends_s, notices, log)
        instance.stop()
        notices.finish(PATIENCE_S)
        _report(instance.stats(), time.monotonic() - began_s, as_json)
        instance.wait(0)
    finally:
        instance.close()
    return 0


def _drop_root(account: Account) -> None:
    """Become the account for good, before the engine starts its threads.

    Raises:
        RightsError: the kernel refused, or threads run, each of which has rights of its own.
    """
    ends_s = time.monotonic() + _THREADS_END_S
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < ends_s:
        time.sleep(0.005)  # one that looks up a host name ends yet
    try:
        drop_privileges(account.uid, account.gid)
    except RightsError as error:
        hint = "" if account.uid == 0 else "; --user root keeps the rights of root"
        raise RightsError(f"{error}{hint}") from error


def _announce(instance: Relay, notices: TextWriter) -> None:
    lines = [f"warning: {warning}" for warning in instance.warnings]
    for rule in instance.rules:
        hops = ", ".join(str(output.effective_ttl) for output in rule.outputs)
        lines.append(f"rule {rule.id}: {rule} (ttl {hops})")
    count = len(instance.rules)
    noun = "rule" if count == 1 else "rules"
    lines.append(f"ready: {count} {noun}, ingress {instance.ingress}")
    notices.write("".join(f"{line}\n" for line in lines))


def _watch(
    instance: Relay, signals: HeldSignals, deadline_s: float, notices: TextWriter, log: LogDisplay
) -> None:
    with open_view(instance.stats(), notices) as view:
        while instance.error is None:
            left_s = deadline_s - time.monotonic()
            wait_s = max(0, min(left_s, INTERVAL_S))
            number = signals.take(wait_s)
            if number == signal.SIGHUP:
                # In its own thread: a slow name server must not delay Ctrl-C.
                threading.Thread(target=_resolve_hosts, args=(instance,), daemon=True).start()
                continue
            if number is not None or left_s <= INTERVAL_S:
                return
            log.show(instance.stats(), view)


def _resolve_hosts(instance: Relay) -> None:
    logger = logger_of("rules")
    try:
        changes = instance.resolve_hosts()
    except McrError as error:
        logger.warning("host names resolved again, nothing changed: %s", error)
        return
    if not changes:
        logger.info("host names resolved again: no address has changed")


def _report(stats: Stats, seconds: float, as_json: bool) -> None:
    """Write the report, unless its reader has stopped reading."""
    out = TextWriter(sys.stdout)
    out.write(f"{json.dumps(stats.as_dict()) if as_json else report(stats, seconds)}\n")
    out.finish(_REPORT_PATIENCE_S)
