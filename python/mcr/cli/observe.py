"""Commands that observe or shut down a daemon: workers, events, log-level and others."""

import json
import time
from collections import deque
from collections.abc import Iterator
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from ..alarms.event import Event
from ..choices import LEVELS, Facility
from ..client import EventStream, methods
from ..errors import DaemonError
from ..protocol.constants import EVENT_KINDS, EventKind, default_socket
from ..protocol.log_spec import parse_level
from ..protocol.results import (
    Hello,
    InterfaceInfo,
    LogLevels,
    Pong,
    WorkerDeath,
    WorkerInfo,
)
from ..protocol.text import printable
from .options import AnswerAsJson, SocketOption
from .output import moment, show_table, span
from .remote import ask, connect
from .signals import until_interrupt

_DEFAULT = "default"
_REPLAY_PAUSE_S = 0.5
"""A longer pause ends the replay, whose last events may be of other kinds."""
_UNLOGGED = tuple(kind for kind in EVENT_KINDS if kind != "log")


def workers(socket: SocketOption = None, as_json: AnswerAsJson = False) -> None:
    """List the worker processes, their states and their last deaths."""
    ask(socket, methods.workers(), as_json, _show_workers)


def interfaces(socket: SocketOption = None, as_json: AnswerAsJson = False) -> None:
    """List the network interfaces that the daemon sees."""
    ask(socket, methods.interfaces(), as_json, _show_interfaces)


def _new_level(text: str) -> str:
    return text if text == _DEFAULT else parse_level(text, _DEFAULT)


def log_level(
    level: Annotated[
        str | None,
        typer.Argument(
            metavar="LEVEL",
            parser=_new_level,
            help="The least severe messages to log: trace, debug, info, notice, warning, error,"
            " critical, alert or emergency; default makes a facility follow the global level"
            " again.",
        ),
    ] = None,
    facility: Annotated[
        Facility | None,
        typer.Option(
            metavar="FACILITY",
            help="Set the level of messages about this only: supervisor, control, worker, ingress,"
            " egress, pool, parser, rules, stats, interfaces or security.",
        ),
    ] = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Show or set which messages the daemon logs."""
    if level is None and facility is not None:
        raise typer.BadParameter(
            f"needs a level: {', '.join((*LEVELS, _DEFAULT))}", param_hint="'LEVEL'"
        )
    if level == _DEFAULT and facility is None:
        raise typer.BadParameter("'default' needs --facility", param_hint="'LEVEL'")
    wanted = None if level == _DEFAULT else level
    call = methods.log_levels() if level is None else methods.set_log_level(wanted, facility)
    ask(socket, call, as_json, _show_levels)


def _event_kind(text: str) -> EventKind:
    """A kind of events. Typer reads literals, but no lists of them."""
    if text not in EVENT_KINDS:
        raise ValueError(f"{text!r} is not one of {', '.join(map(repr, EVENT_KINDS))}")
    return text


def events(
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar=f"[{'|'.join(EVENT_KINDS)}]",
            parser=_event_kind,
            help="Show events of this kind only; may be repeated. By default all but log, which"
            " repeats the others in words.",
        ),
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="First show the available events after event N; 0 shows all."
        ),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Show the last N available events and end, as tail -n does."
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Stop after this many events.")
    ] = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Follow the events of the daemon, one line each, until Ctrl-C."""
    if last is not None and (after is not None or count is not None):
        raise typer.BadParameter("excludes --after and --count", param_hint="'--last'")
    with (
        until_interrupt(),
        connect(socket) as client,
        client.events(kind or _UNLOGGED, after=0 if last is not None else after) as stream,
    ):
        if last is not None:
            known = client.hello().sequence
            for event in deque(_available(stream, known), last):
                _show_event(event, as_json)
            return
        for number, event in enumerate(stream, 1):
            _show_event(event, as_json)
            if number == count:
                return


def _available(stream: EventStream, last: int) -> Iterator[Event]:
    """The events that can be replayed, up to the one with this number."""
    while (event := stream.read(_REPLAY_PAUSE_S)) is not None:
        if event.kind != "gap":
            yield event
        if event.sequence >= last:
            return


def _show_event(event: Event, as_json: bool) -> None:
    if as_json:
        print(json.dumps(event.as_dict()), flush=True)
        return
    what = f"{event.kind} {event.event}" if event.event != event.kind else event.kind
    text = printable(f"{event.sequence} {what}: {event.text}")
    print(f"{moment(event.at)}  {text}", flush=True)


def ping(socket: SocketOption = None, as_json: AnswerAsJson = False) -> None:
    """Check that the daemon answers, and how many workers run.

    The exit code is 1 if it does not answer.
    """
    began_s = time.monotonic()

    def show(pong: Pong) -> None:
        took_ms = 1000 * (time.monotonic() - began_s)
        print(
            f"answered in {took_ms:.1f} ms: revision {pong.revision}, {pong.workers.running} of"
            f" {pong.workers.of} workers running, up for {span(pong.uptime_s)}"
        )

    ask(socket, methods.ping(), as_json, show)


def version(socket: SocketOption = None, as_json: AnswerAsJson = False) -> None:
    """Show the versions of this command and of the running daemon."""
    own = f"mcr {installed_version('mcr-relay')}"
    path = socket or default_socket()
    answered: Hello | None = None
    why = ""
    try:
        with connect(socket) as client:
            answered = client.hello()
    except DaemonError as error:
        if socket is not None:
            raise
        why = str(error)
    if as_json:
        print(json.dumps({"client": own, "daemon": answered.server if answered else None}))
        return
    print(own)
    print(f"daemon at {path}: {printable(answered.server) if answered else f'none ({why})'}")


def shutdown(socket: SocketOption = None, as_json: AnswerAsJson = False) -> None:
    """Shut the daemon down, and with it the traffic.

    It still sends what it has received, and writes a final report to its log.
    """
    ask(socket, methods.shutdown(), as_json, lambda _: print("the daemon is shutting down"))


def _show_workers(known: tuple[WorkerInfo, ...]) -> None:
    show_table(
        ("worker", "pid", "state", "engine", "cpu", "since", "deaths", "last death"),
        (
            (
                str(worker.number),
                _or_dash(worker.pid),
                _state(worker),
                worker.engine or "-",
                _or_dash(worker.cpu),
                "-" if worker.started_at is None else moment(worker.started_at),
                str(worker.deaths),
                "-" if worker.last_death is None else _death(worker.last_death),
            )
            for worker in known
        ),
    )


def _state(worker: WorkerInfo) -> str:
    if worker.restart_in_ms is None:
        return worker.state
    return f"{worker.state}, restarts in {worker.restart_in_ms:.0f} ms"


def _death(death: WorkerDeath) -> str:
    facts = [death.cause]
    if death.outage_ms is not None:
        facts.append(f"out for {death.outage_ms:.0f} ms")
    if death.missed_frames is not None:
        facts.append(f"missed {death.missed_frames} frames")
    return f"{moment(death.at)}: {', '.join(facts)}"


def _show_interfaces(known: tuple[InterfaceInfo, ...]) -> None:
    show_table(
        ("interface", "index", "state", "multicast", "mtu", "gro", "addresses"),
        (
            (
                ", ".join((interface.name, *interface.altnames)),
                str(interface.index),
                _link(interface),
                "yes" if interface.multicast else "no",
                str(interface.mtu),
                "on" if interface.gro else "off",
                " ".join(map(str, interface.addresses)) or "-",
            )
            for interface in known
        ),
    )


def _link(interface: InterfaceInfo) -> str:
    if not interface.up:
        return "down"
    return "up" if interface.carrier else "no carrier"


def _show_levels(levels: LogLevels) -> None:
    rows = [(facility, level or levels.level) for facility, level in levels.facilities.items()]
    show_table(("facility", "level"), [("(all others)", levels.level), *rows])


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)
