"""The command `mcr explain`: what becomes of a datagram, in words or from a capture, and why."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from ..choices import Ingress, IngressChoice
from ..client import methods
from ..daemon.control.rules.entries import EnabledRule, read_entries
from ..explain.capture_summary import CaptureSummary, discarded_as_dicts, summarize
from ..explain.captures import read_capture
from ..explain.explainer import explain_rules
from ..explain.results import (
    RELAYED,
    CopyExplanation,
    DatagramFacts,
    Explanation,
    endpoint_text,
)
from ..explain.sentences import frame_text
from ..explain.words import parse_datagram
from ..protocol.constants import EXPLAINED_DATAGRAMS
from ..protocol.text import printable
from ..rules import Rule
from .options import AcceptBadChecksums, AnswerAsJson, SocketOption
from .progress import progress
from .remote import connect
from .rule_file import read_rules
from .usage import usage_of

Explain = Callable[[Sequence[DatagramFacts]], Iterable[Explanation]]


def explain(
    datagram: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATAGRAM",
            help="[SOURCE[:PORT]@]GROUP%IFACE:PORT and ttl=, vlan=, dscp= and size= in bytes: what"
            " arrives on the interface.",
        ),
    ] = None,
    read: Annotated[
        str | None,
        typer.Option(
            "--read", "-r", metavar="FILE", help="Explain a capture, pcap or pcapng; - is stdin."
        ),
    ] = None,
    interface: Annotated[
        str | None,
        typer.Option(
            metavar="IFACE", help="Where the frames of the capture arrive; pcapng often says it."
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE", help="Ask this rule, not the daemon; may be repeated."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Ask the rules of a file, as for mcr rule replace."),
    ] = None,
    ingress: Annotated[
        IngressChoice, typer.Option(help="How rules of --rule or --file receive; auto is packet.")
    ] = "auto",
    accept_bad_checksums: AcceptBadChecksums = False,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> int:
    """Say what becomes of a datagram: which rules relay it, what each output sends, or why not.

    Nothing is sent. The answer is that of the running daemon, or of the rules given with --rule or
    --file. The exit code is 1 if no rule relays the datagram. A ? is what this host does not know:
    the source address of a copy if no route determines it ("from ?"), or a MAC address.
    """
    if (read is None) == (not datagram):
        raise typer.BadParameter(
            "give a datagram, or a capture with --read; one of the two", param_hint="'DATAGRAM'"
        )
    facts = parse_datagram(" ".join(datagram)) if datagram else None
    with ExitStack() as stack:
        ask = _offline(rule or [], file, ingress) if rule or file else _daemon(socket, stack)
        if facts is not None:
            (answer,) = ask([facts])
            _show_one(answer, as_json)
            return int(answer.verdict != RELAYED)
        with usage_of("--read"):
            summary = _read(read or "-", interface, verify=not accept_bad_checksums)
        with progress(f"explaining {len(summary.datagrams)} datagrams"):
            answers = list(ask(list(summary.datagrams)))
        _show_capture(summary, answers, as_json)
    return 0


def _daemon(socket: str | None, stack: ExitStack) -> Explain:
    """Ask the daemon, in requests of a size that it accepts."""
    client = stack.enter_context(connect(socket))

    def ask(datagrams: Sequence[DatagramFacts]) -> Iterator[Explanation]:
        rest = iter(datagrams)
        while piece := list(islice(rest, EXPLAINED_DATAGRAMS)):
            yield from client.request(methods.explain(piece))

    return ask


def _offline(rules: list[str], file: str | None, ingress: IngressChoice) -> Explain:
    entries = [EnabledRule(Rule.parse(text), enabled=True) for text in rules]
    if file is not None:
        with usage_of("--file"):
            entries += read_entries(read_rules(file), enabled=True)
    chosen: Ingress = "udp" if ingress == "udp" else "packet"
    enabled = {entry.rule.id: entry.enabled for entry in entries}
    explainer, warnings = explain_rules((entry.rule for entry in entries), chosen, enabled)
    for warning in warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    return lambda datagrams: map(explainer.explain, datagrams)


def _read(file: str, interface: str | None, *, verify: bool) -> CaptureSummary:
    with ExitStack() as stack:
        stream: BinaryIO = sys.stdin.buffer
        try:
            if file != "-":
                stream = stack.enter_context(Path(file).open("rb"))
            with progress(f"reading {file}"):
                return summarize(read_capture(stream), interface, verify=verify)
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ValueError(f"{file} {error}") from None


def _show_one(answer: Explanation, as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer.as_dict()), flush=True)
    else:
        print("\n".join(map(printable, _lines(answer))), flush=True)


def _show_capture(summary: CaptureSummary, answers: Sequence[Explanation], as_json: bool) -> None:
    counts = list(summary.datagrams.values())
    if as_json:
        found: list[dict[str, Any]] = [
            {"frames": count.frames, "first": count.first, "explanation": answer.as_dict()}
            for count, answer in zip(counts, answers, strict=True)
        ]
        others = {
            "discarded": discarded_as_dicts(summary),
            "more": summary.more,
            "outbound": summary.outbound,
        }
        print(json.dumps({"frames": summary.frames, "datagrams": found, **others}), flush=True)
        return
    for count, answer in zip(counts, answers, strict=True):
        print(f"{_frames(count.frames)}, first {count.first}: ", end="")
        _show_one(answer, as_json=False)
    for reason, count in summary.discarded.items():
        print(f"{_frames(count.frames)}, first {count.first}: {reason}: {frame_text(reason)}")
    if summary.more:
        print(f"{_frames(summary.more)} with further datagrams are not explained")
    if summary.outbound:
        print(f"{_frames(summary.outbound)} sent by the host of the capture are not explained")
    print(f"{_frames(summary.frames)} read", flush=True)


def _lines(answer: Explanation) -> Iterator[str]:
    yield str(answer.datagram)
    reason = "" if answer.verdict == RELAYED else f" ({answer.verdict})"
    yield f"  {answer.text}{reason}"
    for rule in answer.rules:
        yield f"  rule {_label(rule.id, rule.name)}: {rule.rule}"
        if rule.obstacle:
            yield f"    receives nothing now: {rule.obstacle}"
        for copy in rule.outputs:
            yield f"    {copy.output}: {_copy(copy)}"
            if copy.loss:
                yield f"      lost as {copy.loss}: {copy.why}"
    for other in answer.others:
        yield f"  not by rule {_label(other.id, other.name)} ({other.reason}): {other.text}"
    for note in answer.notes:
        yield f"  note: {note}"


def _copy(copy: CopyExplanation) -> str:
    parts = [f"to {endpoint_text(copy.destination, copy.port)}"]
    if copy.interface:
        parts[0] += f" by {copy.interface}"
    if copy.gateway:
        parts.append(f"gateway {copy.gateway}")
    if copy.mac or copy.mac_state not in ("none", "known"):
        state = "" if copy.mac_state == "known" else f" ({copy.mac_state})"
        parts.append(f"MAC {copy.mac or '?'}{state}")
    port = "a port of the kernel's choice" if copy.source_port is None else str(copy.source_port)
    source = "?" if copy.source is None else copy.source
    parts.append(f"from {source}, {'' if copy.source_port is None else 'port '}{port}")
    parts.append(f"ttl {copy.ttl}, dscp {copy.dscp}, {copy.size_bytes} bytes")
    if copy.packets > 1 and not copy.loss:
        parts.append(f"in {copy.packets} fragments (MTU {copy.mtu})")
    return ", ".join(parts)


def _label(rule_id: str, name: str | None) -> str:
    return f"{rule_id} ({name})" if name else rule_id


def _frames(count: int) -> str:
    return f"{count} frame" if count == 1 else f"{count} frames"
