"""The server of `mcr web`: its listening socket and its life."""

import asyncio
import logging
import signal
import socket
from types import FrameType

import uvicorn

from ..errors import McrError
from . import limits
from .app import WebApp
from .connection import LimitedConnection
from .settings import WebSettings

_SHUTDOWN_S = 2  # for answers in progress


def serve(settings: WebSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        McrError: the address cannot be listened at.
    """
    with _listening_socket(settings) as listener:
        # Errors of clients are no log lines: everyone who connects could write them.
        for name in ("uvicorn", "asyncio"):
            logging.getLogger(name).setLevel(logging.ERROR)
        config = uvicorn.Config(
            WebApp(settings).asgi(),
            loop="asyncio",
            http=LimitedConnection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=limits.HEAD_BYTES,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
        # uvicorn repeats the signal to this process once it has ended.
        signal.signal(signal.SIGTERM, _on_signal)
        signal.signal(signal.SIGINT, _on_signal)
        address, port = listener.getsockname()[:2]
        place = f"[{address}]" if ":" in address else address
        print(f"ready: http://{place}:{port}/, daemon at {settings.socket}", flush=True)
        _Server(config).run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that ends at once: an answer that is cut off can be requested again."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections, and then what has served them."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # the connections notice it
        await super().shutdown(sockets)


def _listening_socket(settings: WebSettings) -> socket.socket:
    family = socket.AF_INET6 if settings.address.version == 6 else socket.AF_INET  # noqa: PLR2004
    place = (str(settings.address), settings.port)
    try:
        return socket.create_server(place, family=family, backlog=limits.CONNECTIONS)
    except OSError as error:
        text = f"cannot listen at {place[0]}, port {place[1]}: {error.strerror}"
        raise McrError(f"{text}; choose others with --address and --port") from None


def _on_signal(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the server has handled the signal."""
