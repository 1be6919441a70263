"""The command that lists who sends to the rules of a daemon."""

import sys
from typing import Annotated

import typer

from ..client import methods
from ..protocol.results import FlowList
from ..protocol.summary import bits_text, bytes_text, endpoint_text
from ..stats import FlowStats, Rate
from .options import AnswerAsJson, SocketOption
from .output import moment, show_table
from .remote import ask
from .rule_output import known_rules


def flows(
    rules: Annotated[
        list[str] | None,
        typer.Argument(metavar="RULE", help="Only these rules, by id, name or text."),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=10_000, help="Show at most this many flows.")
    ] = 1000,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """List who sends to each rule: counts, rates, TTL and DSCP, and what is lost before mcr.

    The daemon counts flows if it was started with --flows.
    """
    ask(socket, methods.flows(known_rules(rules), limit=limit), as_json, _show)


def _show(known: FlowList) -> None:
    if not known.counted:
        print("the daemon does not count flows; start it with mcr serve --flows", file=sys.stderr)
        return
    show_table(
        (
            *("rule", "from", "to", "datagrams", "bytes", "in/s", "rate", "ttl", "dscp"),
            *("sequence", "last seen"),
        ),
        map(_row, known.flows),
    )
    if known.total > len(known.flows):
        print(f"{known.total - len(known.flows)} more flows; --limit shows more", file=sys.stderr)


def _row(flow: FlowStats) -> tuple[str, ...]:
    rate = flow.rate_1s or Rate(0, 0, 0)
    ttls = {str(ttl): None for ttl in (flow.ttl_min, flow.ttl_max)}
    return (
        flow.rule,
        endpoint_text(flow.source, flow.source_port),
        endpoint_text(flow.group, flow.port),
        str(flow.datagrams),
        bytes_text(flow.bytes),
        f"{rate.pps:.0f}",
        bits_text(rate.bits_per_s),
        "-".join(ttls),
        ",".join(map(str, flow.dscps)),
        "-" if flow.sequence is None else flow.sequence.text,
        moment(flow.last_seen),
    )
