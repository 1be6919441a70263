"""The command `mcr check`: a plugin for monitoring systems, by the conventions of Nagios.

One line on standard output and the exit code 0 (OK), 1 (WARNING), 2 (CRITICAL) or 3 (UNKNOWN).
"""

import os
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple

import typer

from ..client import methods
from ..errors import DaemonError, McrError
from ..protocol.results import DaemonStats
from ..protocol.selection import label
from ..protocol.text import printable
from ..stats import OutputStats, RuleStats
from .options import SocketOption
from .remote import connect
from .rule_output import known_rules

OK, WARNING, CRITICAL, UNKNOWN = range(4)
_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_NAMED = 3
"""The most problems in the line; it has the number of the others."""
_RULES_WITH_DATA = 50
"""The most rules with data of their own; graphs of more are of no use, and lines have limits."""
_SUFFIXES = (".toml", ".json")
_LOSS_WARNING, _LOSS_CRITICAL = 0.0, 1.0


class _Finding(NamedTuple):
    """What is wrong with a rule."""

    code: int
    text: str


class _Limits(NamedTuple):
    """The percentages of lost copies above which a rule is not well."""

    warning: float
    critical: float


def check(
    rules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RULE",
            help="Only these rules, by id, name or text. A configuration file is checked as by mcr"
            " config check.",
        ),
    ] = None,
    loss_warning: Annotated[
        float,
        typer.Option(
            metavar="PERCENT",
            min=0,
            max=100,
            help="WARNING if more of the copies of the last 10 s were lost.",
        ),
    ] = _LOSS_WARNING,
    loss_critical: Annotated[
        float, typer.Option(metavar="PERCENT", min=0, max=100, help="CRITICAL if more were lost.")
    ] = _LOSS_CRITICAL,
    socket: SocketOption = None,
) -> int:
    """Check the daemon and its rules, as a plugin of Nagios, Icinga and others.

    CRITICAL: no daemon, an alarm because less arrives than a rule expects, a loop, an input that
    cannot receive, an output that cannot send, a worker that does not run. WARNING: more sources
    than expected, an input of a merge that is down while another delivers. Rules that expect
    nothing may be silent. UNKNOWN: no such rule, wrong usage.
    """
    if rules and len(rules) == 1 and _is_configuration(rules[0]):
        from .config import check as check_file  # noqa: PLC0415 -- slow to load

        check_file(rules[0])
        return OK
    try:
        with connect(socket) as client:
            pong = client.ping()
            stats = client.request(methods.stats(known_rules(rules)))
    except McrError as error:
        code = CRITICAL if isinstance(error, DaemonError) else UNKNOWN
        return _answer(code, printable(f"{error}{_file_hint(rules)}"), "")
    limits = _Limits(loss_warning, max(loss_warning, loss_critical))
    findings = [finding for rule in stats.rules for finding in _findings(rule, limits)]
    if pong.workers.running < pong.workers.of:
        text = f"{pong.workers.running} of {pong.workers.of} workers run"
        findings.append(_Finding(CRITICAL, text))
    findings.sort(key=lambda each: -each.code)
    code = findings[0].code if findings else OK
    return _answer(code, _sentence(findings, stats), _data(stats, limits))


def _is_configuration(argument: str) -> bool:
    """Whether an argument names a file rather than a rule."""
    return argument.endswith(_SUFFIXES) and os.path.isfile(argument)


def _file_hint(rules: list[str] | None) -> str:
    """Why the only argument is not the configuration file that it seems to name."""
    name = rules[0] if rules and len(rules) == 1 else ""
    if " " in name or not ("/" in name or name.endswith(_SUFFIXES)):
        return ""
    if os.path.isfile(name):
        return f"; a configuration file has a name in {' or '.join(_SUFFIXES)}"
    return f"; there is no file {name!r} either"


def _findings(rule: RuleStats, limits: _Limits) -> Iterator[_Finding]:
    name = label(rule)
    if rule.state_code == "disabled":
        return
    for alarm in rule.alarms:
        yield _Finding(WARNING if alarm.is_harmless else CRITICAL, f"{name}: {alarm}")
    if rule.state_code in ("unresolved", "waiting"):
        yield _Finding(CRITICAL, f"{name}: {rule.facts.obstacle or rule.state_code}")
    for output in rule.outputs:
        if output.parked is not None:
            yield _Finding(CRITICAL, f"{name}: {output.output}: {output.parked}")
        percent = _lost_percent(output)
        if percent > limits.warning:
            code = CRITICAL if percent > limits.critical else WARNING
            yield _Finding(code, f"{name}: {output.output}: lost {percent:.2g} % in 10 s")


def _lost_percent(output: OutputStats) -> float:
    rate = output.rate_10s
    wanted = 0 if rate is None else rate.pps + rate.dropped_pps
    return 0 if rate is None or not wanted else 100 * rate.dropped_pps / wanted


def _sentence(findings: Sequence[_Finding], stats: DaemonStats) -> str:
    if not findings:
        flowing = sum(rule.state_code == "flowing" for rule in stats.rules)
        disabled = sum(rule.state_code == "disabled" for rule in stats.rules)
        more = f", {disabled} disabled" if disabled else ""
        return f"{flowing} of {len(stats.rules)} rules flowing{more}"
    more = f" (and {len(findings) - _NAMED} more)" if len(findings) > _NAMED else ""
    return "; ".join(printable(each.text) for each in findings[:_NAMED]) + more


def _data(stats: DaemonStats, limits: _Limits) -> str:
    """The performance data: the totals, and of few rules each one's."""
    totals = stats.totals
    alarms = sum(len(rule.alarms) for rule in stats.rules)
    items = [
        f"rules={len(stats.rules)};;;0",
        f"alarms={alarms};;;0",
        f"received={totals.received}c;;;0",
        f"matched={totals.matched}c;;;0",
        f"sent={totals.sent}c;;;0",
        f"lost={totals.lost}c;;;0",
        f"kernel_dropped={totals.kernel_dropped_frames}c;;;0",
    ]
    for rule in stats.rules[:_RULES_WITH_DATA]:
        rate = rule.rate_10s
        if rate is not None:
            items.append(f"{_label(rule, 'pps')}={rate.pps:.1f};;;0")
            items.append(f"{_label(rule, 'bps')}={rate.bits_per_s:.0f};;;0")
        percent = max(map(_lost_percent, rule.outputs), default=0)
        thresholds = f"{limits.warning:g};{limits.critical:g};0;100"
        items.append(f"{_label(rule, 'loss')}={percent:.3f}%;{thresholds}")
    return " ".join(items)


def _label(rule: RuleStats, what: str) -> str:
    """A label of performance data: in quotes unless it is plain; no `=` can be in one."""
    text = f"{printable(label(rule))} {what}".replace("=", "_").replace("|", "_")
    plain = re.fullmatch(r"[A-Za-z0-9_.:/-]+", text)
    return text if plain else "'{}'".format(text.replace("'", "''"))


def _answer(code: int, text: str, data: str) -> int:
    line = f"MCR {_WORDS[code]}: {text.replace('|', '/')}"
    print(f"{line} | {data}" if data else line, flush=True)
    return code
