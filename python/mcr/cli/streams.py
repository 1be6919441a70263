"""The command `mcr streams`: what is on a link, on the wire and announced."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Annotated

import typer

from ..client import methods
from ..errors import DaemonError
from ..explain.results import RELAYED, DatagramFacts
from ..protocol.constants import EXPLAINED_DATAGRAMS
from ..protocol.summary import bits_text
from ..protocol.text import printable
from ..rules import Rule
from ..rules.grammar import format_endpoint
from ..streams.listener import LinkListener
from ..streams.results import Announcement, LinkReport, LinkStream
from .options import SocketOption
from .output import show_table
from .progress import progress
from .remote import connect
from .sdp_rules import rule_to
from .signals import until_interrupt
from .usage import usage_of

_PIECE_S = 0.5


def streams(
    interface: Annotated[
        list[str] | None,
        typer.Argument(metavar="%IFACE", help="Only these interfaces; by default all that are up."),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=86400,
            metavar="SECONDS",
            help="How long to listen; announcements may take minutes.",
        ),
    ] = 5,
    rules: Annotated[
        bool, typer.Option("--rules", help="Print a rule for each stream; needs --to.")
    ] = False,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="OUTPUT",
            help="The output of these rules; %IFACE keeps the group and port.",
        ),
    ] = None,
    socket: SocketOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the multicast streams on links: sender, rate, sizes, contents and rules.

    Needs CAP_NET_RAW. Reads what arrives, and session announcements (SAP); a switch sends only the
    groups that some host on this port has joined. Whether a rule relays them is asked of the
    daemon, if one runs.
    """
    if rules != (to is not None):
        raise typer.BadParameter("--rules and --to need each other", param_hint="'--rules'")
    with LinkListener([name.removeprefix("%") for name in interface or ()]) as listener:
        found = listener.listen(0)
        with progress(f"listening for {seconds:g} s"), until_interrupt():
            ends_s = time.monotonic() + seconds
            while (left_s := ends_s - time.monotonic()) > 0:
                found = listener.listen(min(left_s, _PIECE_S))
    if to is not None:
        with usage_of("--to"):
            texts = list(_rules(found.streams, to))
        print("\n".join(texts), flush=True)
        return
    found = replace(found, streams=tuple(_with_rules(found.streams, socket)))
    if as_json:
        print(json.dumps(found.as_dict()), flush=True)
    else:
        _show(found)


def _rules(found: Sequence[LinkStream], to: str) -> Iterator[str]:
    """A rule for each stream with its sender; streams that are announcements are left out."""
    for stream in found:
        if stream.kind == "sap":
            continue
        vlan = stream.vlan or None
        endpoint = format_endpoint(
            stream.group,
            stream.interface,
            stream.port,
            sources=[stream.source],
            options=[("vlan", vlan)],
        )
        yield str(Rule.parse(f"{endpoint} to {rule_to(to, stream.group, stream.port)}"))


def _with_rules(found: Sequence[LinkStream], socket: str | None) -> Iterator[LinkStream]:
    """The streams with the rules of the daemon, if one answers."""
    answers: dict[int, tuple[str, ...]] = {}
    try:
        with connect(socket) as client:
            numbered = iter(enumerate(found))
            while piece := list(islice(numbered, EXPLAINED_DATAGRAMS)):
                explained = client.request(methods.explain([_facts(each) for _, each in piece]))
                for (number, _), answer in zip(piece, explained, strict=True):
                    names = tuple(rule.name or rule.id for rule in answer.rules)
                    answers[number] = names if answer.verdict == RELAYED else ()
    except DaemonError:
        if socket is not None:
            raise
    for number, each in enumerate(found):
        yield replace(each, rules=answers.get(number))


def _facts(stream: LinkStream) -> DatagramFacts:
    return DatagramFacts(
        group=stream.group,
        port=stream.port,
        interface=stream.interface,
        source=stream.source,
        source_port=stream.source_port,
        ttl=stream.ttl,
        vlan=stream.vlan,
        size_bytes=stream.size_max_bytes,
    )


def _show(found: LinkReport) -> None:
    show_table(
        ("interface", "group", "from", "in/s", "rate", "bytes", "ttl", "kind", "rules", "name"),
        map(_row, found.streams),
    )
    for each in found.announcements:
        print(printable(_announced(each)))
    notes: Mapping[str, int] = {
        "datagrams of further streams": found.more_streams,
        "multicast frames without a readable datagram": found.unreadable,
        "frames missed, so that rates are too low": found.missed_frames,
    }
    for text, count in notes.items():
        if count:
            print(f"{count} {text}", file=sys.stderr)


def _row(stream: LinkStream) -> tuple[str, ...]:
    vlan = f".{stream.vlan}" if stream.vlan else ""
    sizes = dict.fromkeys((stream.size_min_bytes, stream.size_max_bytes))
    kind = stream.kind if stream.kind == "unknown" else f"{stream.kind} ({stream.confidence})"
    rules = "?" if stream.rules is None else ",".join(stream.rules) or "none"
    return (
        f"{stream.interface}{vlan}",
        format_endpoint(stream.group, None, stream.port),
        format_endpoint(stream.source, None, stream.source_port),
        f"{stream.pps:.0f}",
        bits_text(stream.bits_per_s),
        "-".join(map(str, sizes)),
        str(stream.ttl),
        kind,
        rules,
        stream.name or "-",
    )


def _announced(session: Announcement) -> str:
    parts = []
    for each in session.streams:
        sources = "+".join(map(str, each.sources))
        place = format_endpoint(each.group, None, each.port)
        parts.append(f"{f'{sources}@' if sources else ''}{place} {each.media} {each.format}")
    return (
        f"announced on {session.interface} by {session.origin}: {session.name or '(no name)'}:"
        f" {'; '.join(parts)}"
    )
