"""The command that serves metrics, read-only JSON and a page about a daemon."""

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ..errors import McrError
from ..protocol.constants import default_socket
from ..web import limits
from ..web.settings import PORT, WebSettings, listening_address, read_token
from .options import SocketOption
from .usage import usage_of

_LIBRARIES = ("starlette", "uvicorn", "prometheus_client")


def web(
    address: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The IPv4 or IPv6 address to listen at.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="The port to listen at; 0 is any.")
    ] = PORT,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Answer only those who present the token in this file. Needed for any address but"
            " loopback.",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name under which browsers reach the server, such as that of a proxy; may be"
            " repeated.",
        ),
    ] = None,
    metric_rules: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=100_000, help="The most rules that get metrics of their own."
        ),
    ] = limits.METRIC_RULES,
    socket: SocketOption = None,
) -> None:
    """Serve metrics for Prometheus, read-only JSON and a page about a daemon, over HTTP.

    It runs in the foreground until SIGTERM or Ctrl-C, needs no rights but to use the daemon's
    socket, or that for observers, and cannot change anything. Needs the extra web.
    """
    with usage_of("--address"):
        listening = listening_address(address)
    with usage_of("--token-file"):
        token = None if token_file is None else read_token(token_file)
        if token is None and not listening.is_loopback:
            raise ValueError(f"is needed to listen at {listening}, which other hosts may reach")
    missing = [library for library in _LIBRARIES if find_spec(library) is None]
    if missing:
        raise McrError(
            f"mcr web needs {' and '.join(missing)}; install them with pip install 'mcr-relay[web]'"
        )
    if os.geteuid() == 0:
        text = "mcr web needs no rights; run it as a user of the group of mcr serve --observers"
        print(f"warning: {text}", file=sys.stderr, flush=True)
    settings = WebSettings(
        socket=default_socket() if socket is None else Path(socket).absolute(),
        address=listening,
        port=port,
        token=token,
        hosts=frozenset(each.lower().rstrip(".") for each in name or ()),
        metric_rules=metric_rules,
    )
    import_module("mcr.web.server").serve(settings)  # loads the libraries of the extra
