"""The command `mcr serve`: the options of the daemon, and its start."""

import grp
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from ..affinity import chosen_cpus
from ..choices import Ingress, IngressChoice, LogFormat, Offload
from ..config.keys import DAEMON
from ..daemon.account import Account, check_may_become, target_account
from ..daemon.settings_reader import read_settings
from ..daemon.supervisor import (
    DaemonSettings,
    become_supervisor,
    choose_ingress,
    choose_offload,
)
from ..errors import McrError
from ..protocol.constants import SOCKET_VARIABLE, default_socket
from ..relay.settings import BUFFER_BYTES, default_expectation
from .options import (
    AcceptBadChecksums,
    CpusOption,
    EgressOption,
    ExpectOption,
    FlowsOption,
    HostsOption,
    IngressOption,
    LatencyOption,
    LogLevelOption,
    LogStatsOption,
    OffloadOption,
    WorkersOption,
)
from .usage import usage_of


def _socket_path(text: str) -> Path:
    if not text or text.endswith("/"):
        raise ValueError(f"{text!r} is a directory; name the socket's file")
    return Path(text).absolute()


def _state_file(text: str) -> Path:
    """The file need not exist, but its directory must."""
    path = Path(text).absolute()
    if not path.parent.is_dir():
        raise ValueError(f"there is no directory {path.parent}")
    if path.exists() and not path.is_file():
        raise ValueError(f"{text} is not a regular file")
    return path


_SocketPath = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        parser=_socket_path,
        envvar=SOCKET_VARIABLE,
        help="Where clients reach the daemon. By default /run/mcr/mcr.sock for root, and a path"
        " below XDG_RUNTIME_DIR for others.",
    ),
]
_User = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The user that all processes but the supervisor become, if started as root. Members"
        " of its group may use the daemon. By default it is nobody, and only root may.",
    ),
]
_Observers = Annotated[
    str | None,
    typer.Option(
        metavar="GROUP",
        help="Open a second socket, through which members of this group see rules, counters and"
        " events, and can change nothing.",
    ),
]
_ObserversSocket = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        parser=_socket_path,
        help="Where observers reach the daemon. By default beside its socket, such as"
        " /run/mcr/mcr-observers.sock.",
    ),
]


class _FileOptions(NamedTuple):
    """What the configuration file gives the options."""

    include: tuple[str, ...] = ()
    error: McrError | None = None
    """Why the file is refused."""


def _take_settings(context: typer.Context, path: Path | None) -> Path | None:
    """Make the settings of a configuration file the defaults of the other options."""
    if path is None or context.resilient_parsing:
        return path
    try:
        found = read_settings(path.absolute())
    except McrError as error:
        context.obj = _FileOptions(error=error)
    else:
        context.default_map = dict(found.settings)
        context.obj = _FileOptions(found.include)
    return path


_ConfigFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        is_eager=True,
        callback=_take_settings,
        help="The configuration, in TOML or JSON: settings, which the other options here win"
        " over, and rules. Read again by mcr reload and on SIGHUP.",
    ),
]
_KeepGoing = Annotated[
    bool,
    typer.Option(
        "--keep-going",
        help="If the configuration is refused, start all the same: with the options given here and"
        " the rules that --state kept.",
    ),
]
_StateFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        parser=_state_file,
        help="Keep rules in this file, and start with those of them that were added or changed at"
        " run time beside those of --config; without that with all.",
    ),
]
_Takeover = Annotated[
    bool,
    typer.Option(
        "--takeover",
        help="Replace the daemon that serves the socket, such as after an upgrade: with its rules,"
        " sockets and counters, and without losing a datagram. If this one cannot start, that one"
        " continues.",
    ),
]
_LogFormat = Annotated[
    LogFormat,
    typer.Option(
        help="How to write the log: text has the time in each line, json one object a line,"
        " journal priorities; auto is journal under systemd, and lines without the time elsewhere."
    ),
]


def serve(
    context: typer.Context,
    socket: _SocketPath = None,
    workers: WorkersOption = 1,
    cpus: CpusOption = None,
    user: _User = None,
    observers: _Observers = None,
    observers_socket: _ObserversSocket = None,
    config: _ConfigFile = None,
    keep_going: _KeepGoing = False,
    state: _StateFile = None,
    ingress: IngressOption = "auto",
    egress: EgressOption = "auto",
    offload: OffloadOption = "off",
    hosts: HostsOption = "first",
    accept_bad_checksums: AcceptBadChecksums = False,
    flows: FlowsOption = False,
    latency: LatencyOption = False,
    expect: ExpectOption = None,
    log_level: LogLevelOption = "info",
    log_format: _LogFormat = "auto",
    log_stats: LogStatsOption = False,
    takeover: _Takeover = False,
) -> None:
    """Run the daemon, which relays by the rules that clients set.

    It runs in the foreground until SIGTERM, Ctrl-C or mcr shutdown; a second signal ends it at
    once, without the final report. A process of it that dies is restarted. Control and workers run
    without rights; the supervisor, which keeps them, reads nothing from clients or the network.
    """
    file = _file_options(context, keep_going)
    account, path = _account(user), socket or default_socket()
    permitted = _permitted(offload, workers)
    settings = DaemonSettings(
        socket=path,
        ingress=_available(ingress),
        egress=egress,
        offload=permitted,
        workers=workers,
        buffer_bytes=BUFFER_BYTES,
        cpus=_places(cpus, workers),
        account=account,
        group=_group(user, account),
        **_observers_end(path, observers, observers_socket),
        config=None if config is None else config.absolute(),
        state=state,
        hosts=hosts,
        log_level=log_level,
        log_format=log_format,
        log_stats=log_stats,
        verify_checksums=not accept_bad_checksums,
        flows=flows,
        latency=latency,
        expect=_expectation(expect, flows, permitted),
        include=file.include,
        keep_going=keep_going,
        takeover=takeover,
        options=_chosen_options(context),
    )
    become_supervisor(settings)


def _account(user: str | None) -> Account | None:
    with usage_of("--user"):
        account = target_account(user)
    check_may_become(account)
    return account


def _file_options(context: typer.Context, keep_going: bool) -> _FileOptions:
    """What the configuration file gives, if it is not refused or the user wants to go on."""
    file: _FileOptions = context.obj or _FileOptions()
    if file.error is not None:
        prefix = "warning" if keep_going else "mcr"
        for line in str(file.error).splitlines():
            print(f"{prefix}: {line}", file=sys.stderr)
        if not keep_going:
            raise typer.Exit(1)
        text = "THE CONFIGURATION IS REFUSED: starting without it, with the rules that were kept"
        print(f"warning: {text}", file=sys.stderr, flush=True)
    return file


def _chosen_options(context: typer.Context) -> dict[str, Any]:
    """The options that differ from their defaults, as a configuration file has them."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in context.params.items()
        if name in DAEMON and _is_given(context, name)
    }


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _observers_end(path: Path, group: str | None, named: Path | None) -> dict[str, Any]:
    """The settings of the socket for observers."""
    with usage_of("--observers"):
        gid = None if group is None else _group_id(group)
    with usage_of("--observers-socket"):
        if gid is None and named is not None:
            raise ValueError("needs --observers GROUP")
        if named == path:
            raise ValueError("is the daemon's own socket; choose another path")
    beside = path.with_name(f"{path.stem}-observers{path.suffix}")
    return {"observers": gid, "observers_socket": None if gid is None else named or beside}


def _group_id(group: str) -> int:
    """The id of a group that is given by name or number."""
    try:
        if group.isdecimal():
            return grp.getgrgid(int(group)).gr_gid
        return grp.getgrnam(group).gr_gid
    except (KeyError, OverflowError):
        raise ValueError(f"there is no group {group!r} on this host") from None


def _available(asked: IngressChoice) -> Ingress:
    chosen, notice = choose_ingress(asked)
    if notice is not None:
        print(f"warning: {notice}", file=sys.stderr, flush=True)
    return chosen


def _permitted(requested: Offload, workers: int) -> Offload:
    _check_workers(requested, workers)
    chosen, notice = choose_offload(requested)
    if notice is not None:
        print(f"warning: {notice}", file=sys.stderr, flush=True)
    return chosen


def _expectation(expect: str | None, flows: bool, offload: Offload) -> str | None:
    with usage_of("--expect"):
        found = default_expectation(expect, flows=flows, offload=offload)
    return None if found is None else str(found)


def _check_workers(offload: Offload, workers: int) -> None:
    """Several workers share the datagrams of an input by flow, which the kernel cannot follow."""
    if offload == "off" or workers == 1:
        return
    with usage_of("--offload"):
        if offload == "require":
            raise ValueError("require needs --workers 1; the kernel relays without a worker's core")
    text = f"with --workers {workers} the engine relays every rule: offload needs --workers 1"
    print(f"warning: {text}", file=sys.stderr, flush=True)


def _places(cpus: str | None, workers: int) -> tuple[int, ...]:
    """The requested CPUs; by default one for each of several workers, if there are enough."""
    if cpus is not None:
        with usage_of("--cpus"):
            return chosen_cpus(cpus, workers)
    allowed = sorted(os.sched_getaffinity(0))
    return tuple(allowed[:workers]) if 1 < workers <= len(allowed) else ()


def _group(user: str | None, account: Account | None) -> int | None:
    """The group of a user that was named. That of the default user, nobody, cannot be trusted."""
    return account.gid if user is not None and account is not None else None
