"""The command `mcr serve`: the daemon, from its command line to its end."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..affinity import chosen_cpus
from ..daemon.account import Account, target_account
from ..daemon.sealed_memfd import LIMIT_BYTES
from ..daemon.supervisor import DaemonSettings, Ingress, become_supervisor, choose_ingress
from ..protocol.constants import LEVELS, default_socket
from ..relay.settings import BUFFER_BYTES, WORKERS_LIMIT
from ..rules.hostnames import Hosts
from .options import AcceptBadChecksums
from .usage import Problems

_INGRESSES: tuple[Literal["auto", "packet", "udp"], ...] = ("auto", "packet", "udp")
_HOSTS: tuple[Hosts, ...] = ("first", "all")


def serve(
    socket: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Where clients reach the daemon; /run/mcr/mcr.sock for root unless given, for"
            " others below XDG_RUNTIME_DIR.",
        ),
    ] = None,
    workers: Annotated[str, typer.Option(metavar="N", help="Worker processes, a core each.")] = "1",
    cpus: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="The CPU of each worker, as 0,2-3; else one each where there are several.",
        ),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Started as root: the user that all but the supervisor become; its group may talk"
            " to the daemon. Without it nobody is, and only root may.",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help='Rules to begin with where none were kept, as TOML: rules = ["A to B", "C to D"].'
            " Read again on SIGHUP.",
        ),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Keep the rules in this file, and begin with what it holds."
        ),
    ] = None,
    ingress: Annotated[
        str,
        typer.Option(
            metavar="auto|packet|udp",
            help="How datagrams are received: packet needs CAP_NET_RAW, udp needs no rights.",
        ),
    ] = "auto",
    hosts: Annotated[
        str,
        typer.Option(metavar="first|all", help="Which addresses of a host name copies go to."),
    ] = "first",
    accept_bad_checksums: AcceptBadChecksums = False,
    log_level: Annotated[
        str,
        typer.Option(
            metavar="LEVEL", help="The least grave that is logged: debug, info, warning or error."
        ),
    ] = "info",
) -> None:
    """Relay by the rules that clients give, until SIGTERM, Ctrl-C or a client's word.

    Control and workers are processes without rights; the supervisor, which has them, reads nothing
    that comes from clients or the network. One that dies is started again. A second SIGTERM or
    Ctrl-C ends at once, without the final report.
    """
    problems = Problems()
    count = problems.count("--workers", workers, WORKERS_LIMIT) or 1
    places = problems.collect("--cpus", lambda: _places(cpus, count))
    chosen = problems.choice("--ingress", ingress, _INGRESSES) or "auto"
    which = problems.choice("--hosts", hosts, _HOSTS) or "first"
    level = problems.choice("--log-level", log_level, LEVELS) or "info"
    account = problems.collect("--user", lambda: target_account(user))
    path = problems.collect("--socket", lambda: _socket(socket))
    config_file = problems.collect("--config", lambda: _config(config))
    state_file = problems.collect("--state", lambda: _state(state))
    problems.raise_if_any()
    assert path is not None  # else there was a problem
    used = _ingress(chosen)
    setup = DaemonSettings(
        socket=path,
        ingress=used,
        workers=count,
        buffer_bytes=BUFFER_BYTES,
        cpus=places or (),
        account=account,
        group=_group(user, account),
        config=config_file,
        state=state_file,
        hosts=which,
        log_level=level,
        verify_checksums=not accept_bad_checksums,
    )
    become_supervisor(setup)


def _ingress(asked: Literal["auto", "packet", "udp"]) -> Ingress:
    chosen, notice = choose_ingress(asked)
    if notice is not None:
        print(f"warning: {notice}", file=sys.stderr, flush=True)
    return chosen


def _places(cpus: str | None, workers: int) -> tuple[int, ...]:
    """The CPUs that were asked for; unasked, one for each of several workers where they suffice."""
    if cpus is not None:
        return chosen_cpus(cpus, workers)
    allowed = sorted(os.sched_getaffinity(0))
    return tuple(allowed[:workers]) if 1 < workers <= len(allowed) else ()


def _group(user: str | None, account: Account | None) -> int | None:
    """The group of a user that was named; nobody's group is no group to trust."""
    return account.gid if user is not None and account is not None else None


def _socket(given: str | None) -> Path:
    if given is None:
        return default_socket()
    if not given or given.endswith("/"):
        raise ValueError(f"{given!r} is no path of a socket; write a file's name")
    return Path(given).absolute()


def _config(given: str | None) -> Path | None:
    if given is None:
        return None
    path = Path(given).absolute()
    try:
        if not path.is_file():
            raise ValueError(f"there is no file {given}")
        if path.stat().st_size > LIMIT_BYTES:
            raise ValueError(f"{given} is larger than {LIMIT_BYTES} bytes")
    except OSError as error:
        raise ValueError(f"{given} cannot be read: {error.strerror}") from None
    return path


def _state(given: str | None) -> Path | None:
    """The state file need not exist, but the place where it is written has to."""
    if given is None:
        return None
    path = Path(given).absolute()
    if not path.parent.is_dir():
        raise ValueError(f"there is no directory {path.parent}")
    if path.exists() and not path.is_file():
        raise ValueError(f"{given} is no plain file")
    return path
