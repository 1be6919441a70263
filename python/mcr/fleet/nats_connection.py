"""A connection to NATS servers that is kept up until it is closed.

Owns who is trusted (TLS, credentials) and what the last failure was. The only user of nats-py,
beside `nats_store`.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import nats.aio.client
import nats.errors
import nkeys
from nats.aio.msg import Msg

from ..async_closing import AsyncClosing
from ..errors import ArgumentError
from .source import SourceError
from .task_end import end_task

T = TypeVar("T")
REQUEST_S = 2.0
"""The time limit for each request to a server."""
_CONNECT_S = 2
_RETRY_S = 1
_CLOSE_S = 2  # the library waits for a reconnection, which may never come
_PING_S = 5  # a server that answers none of two pings is left for another one
_JWT_MARK, _SEED_MARK = "BEGIN NATS USER JWT", "BEGIN USER NKEY SEED"
_JWT_DOTS = 2
_REJECTIONS = ("authorization", "authentication", "offers no tls")


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """Which servers to use, and how both sides prove who they are."""

    servers: tuple[str, ...]
    """URLs such as ``nats://ams1:4222``; ``tls://`` requires TLS. Without user and password."""
    credentials: Path | None = None
    """A file with the seed of an nkey, or with a JWT and its seed; None sends no credentials."""
    tls_ca: Path | None = None
    """The certificates that may sign the server's; requires TLS."""
    tls_cert: Path | None = None
    """The client's own certificate; requires TLS."""
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without a server.

        Raises:
            ArgumentError: a URL is invalid or has a password, or a file is missing.
        """
        if not self.servers:
            raise ArgumentError("at least one server is needed, such as nats://ams1:4222")
        for url in self.servers:
            _check_url(url)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ArgumentError("the certificate and the key of TLS belong together; give both")
        for path in (self.credentials, self.tls_ca, self.tls_cert, self.tls_key):
            if path is not None and not path.is_file():
                raise ArgumentError(f"{path} is not a file")

    @property
    def requires_tls(self) -> bool:
        """Whether a connection without TLS is refused."""
        return any(url.startswith("tls:") for url in self.servers) or (
            self.tls_ca is not None or self.tls_cert is not None
        )


class RequestRefused(nats.errors.Error):
    """The server does not permit a request; the text is its own."""


class NatsConnection(AsyncClosing):
    """Connects in the background, and again whenever a connection ends, until it is closed."""

    def __init__(self, settings: NatsSettings, *, inbox: str = "_INBOX") -> None:
        """Connect to nothing yet.

        Args:
            settings: the servers.
            inbox: the prefix of the subjects for answers; permissions may depend on it.

        Raises:
            SourceError: a certificate or credentials cannot be read.
        """
        self._options = _options(settings)
        self._requires_tls = settings.requires_tls
        self._servers = [*settings.servers]
        self._inbox = inbox
        self._client: nats.aio.client.Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self._failure: str | None = None
        self._rejections = 0
        """How many servers in a row would refuse this client also in a while."""
        self._asked: list[tuple[str, asyncio.Future[str]]] = []
        """The subjects of requests that wait, each with what gets the text of a refusal."""
        self.refusal: str | None = None
        """What the server has not permitted on this connection."""
        self.on_connected: Callable[[], None] = lambda: None
        """Called when a connection is up, the first one and each later one."""
        self.subscriptions: dict[str, Callable[[Msg], None]] = {}
        """Subjects that every connection subscribes to, each with what is called for a message."""

    def begin(self) -> None:
        """Begin to connect."""
        logging.getLogger("nats").setLevel(logging.CRITICAL)  # `failure` has what it would log
        self._task = asyncio.create_task(self._keep_connected())

    async def _open(self) -> None:
        self.begin()

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._task is not None:
            await end_task(self._task)
        if self._client is not None:
            closing = asyncio.ensure_future(self._client.close())
            await asyncio.wait([closing], timeout=_CLOSE_S)
            await end_task(closing)

    @property
    def client(self) -> nats.aio.client.Client:
        """The connected client.

        Raises:
            SourceError: there is no connection.
        """
        if self._client is None or not self._client.is_connected:
            raise SourceError(self.trouble("no NATS server is connected"))
        return self._client

    async def wait_connected(self, timeout_s: float) -> None:
        """Return when a server is connected.

        Raises:
            SourceError: none is within the time, or each of them has refused this client.
        """
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + timeout_s
        while self._client is None or not self._client.is_connected:
            if loop.time() > ends_s:
                raise SourceError(self.trouble(f"no NATS server could be reached in {timeout_s} s"))
            if self._rejections >= len(self._servers):
                raise SourceError(self.trouble("no NATS server could be used"))
            await asyncio.sleep(0.02)

    async def answer(self, request: Coroutine[Any, Any, T], subject: str) -> T:
        """The result of a request to a server.

        Args:
            request: what waits for the answer.
            subject: a part of the subject that it is sent to, as servers quote it. They report
                apart from the request that they do not permit it, so that it would wait in vain.

        Raises:
            RequestRefused: the server does not permit it.
        """
        refused = asyncio.get_running_loop().create_future()
        asked = (subject.lower(), refused)
        self._asked.append(asked)
        asking = asyncio.ensure_future(request)
        try:
            await asyncio.wait([asking, refused], return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise RequestRefused(refused.result())
            return asking.result()
        finally:
            self._asked.remove(asked)
            if not asking.done():
                await end_task(asking)

    def trouble(self, text: str) -> str:
        """The text with the reason that the servers or the system have given."""
        reason = self.refusal or self._failure
        return text if reason is None else f"{text}: {reason}"

    async def _keep_connected(self) -> None:
        while True:
            self._closed.clear()
            client = _CheckedClient()
            client.requires_tls = self._requires_tls
            self._client = client
            try:
                await self._connect(client)
            except (OSError, nats.errors.Error, TimeoutError) as error:
                await self._note_failure(error)
                await client.close()
            else:
                await self._note_connected()
                await self._closed.wait()
            await asyncio.sleep(_RETRY_S)

    async def _connect(self, client: nats.aio.client.Client) -> None:
        await client.connect(
            servers=self._servers,
            error_cb=self._note_failure,
            closed_cb=self._note_closed,
            reconnected_cb=self._note_connected,
            connect_timeout=_CONNECT_S,
            reconnect_time_wait=_RETRY_S,
            max_reconnect_attempts=-1,
            ping_interval=_PING_S,
            max_outstanding_pings=2,
            inbox_prefix=self._inbox,
            **self._options,
        )
        for subject, call in self.subscriptions.items():
            await client.subscribe(subject, cb=_receiver(call))

    async def _note_connected(self) -> None:
        self._failure = self.refusal = None
        self._rejections = 0
        self.on_connected()

    async def _note_closed(self) -> None:
        self._closed.set()

    async def _note_failure(self, error: Exception) -> None:
        text = str(error).removeprefix("nats: ") or type(error).__name__
        if "permissions violation" in text.lower():
            self.refusal = text
            for subject, refused in self._asked:
                if subject in text.lower() and not refused.done():
                    refused.set_result(text)
            return
        self._failure = text
        self._rejections = self._rejections + 1 if _is_rejection(error) else 0


class _CheckedClient(nats.aio.client.Client):
    """Sends nothing to a server without TLS where TLS is required; the library would."""

    requires_tls = False

    def _connect_command(self) -> bytes:
        if self.requires_tls and not self._server_info.get("tls_required"):
            raise nats.errors.Error("the server offers no TLS, which is required")
        command: bytes = super()._connect_command()
        return command


def _is_rejection(error: Exception) -> bool:
    """Whether keys or certificates are wrong, rather than the network or a server."""
    text = str(error).lower()
    return isinstance(error, ssl.SSLError) or any(each in text for each in _REJECTIONS)


def _receiver(call: Callable[[Msg], None]) -> Any:  # noqa: ANN401 -- a coroutine
    async def receive(message: Msg) -> None:
        call(message)

    return receive


def _check_url(url: str) -> None:
    try:
        parts: SplitResult | None = urlsplit(url)
        port = None if parts is None else parts.port
    except ValueError:
        parts = port = None
    if parts is not None and (parts.username is not None or parts.password is not None):
        raise ArgumentError(
            "a URL must not have user or password, which every user of this host could read;"
            " put a seed or a JWT into a file"
        )
    if parts is None or parts.scheme not in {"nats", "tls"} or not parts.hostname:
        raise ArgumentError(f"{url!r} must be such as nats://ams1:4222 or tls://ams1:4222")
    if port == 0 or parts.path or parts.query:
        raise ArgumentError(f"{url!r} must end with the host and a port from 1 to 65535")


def _kind_of_credentials(path: Path, text: str) -> str:
    """The option of the library for a file with a seed, or with a JWT and its seed."""
    seed, kind = text.strip(), "nkeys_seed"
    if _JWT_MARK in text:
        seed, kind = _line_below(text, _SEED_MARK), "user_credentials"
        if _line_below(text, _JWT_MARK).count(".") != _JWT_DOTS:
            raise SourceError(f"{path} has no JWT in the line below {_JWT_MARK}")
    try:
        is_user = seed.startswith("SU") and bool(nkeys.from_seed(bytearray(seed.encode())))
    except (nkeys.NkeysError, ValueError):
        is_user = False
    if not is_user:
        raise SourceError(f"{path} has no seed of a user (SU...), alone or with a JWT")
    return kind


def _line_below(text: str, mark: str) -> str:
    _, _, below = text.partition(mark)
    return [*below.splitlines(), "", ""][1].strip()


def _options(settings: NatsSettings) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if settings.credentials is not None:
        try:
            text = settings.credentials.read_text(errors="replace")
        except OSError as error:
            raise SourceError(f"{settings.credentials} cannot be read: {error.strerror}") from None
        options[_kind_of_credentials(settings.credentials, text)] = str(settings.credentials)
    if settings.requires_tls:
        try:
            context = ssl.create_default_context(cafile=settings.tls_ca)
            if settings.tls_cert is not None:
                context.load_cert_chain(settings.tls_cert, settings.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise SourceError(f"the files of TLS cannot be used: {error}") from None
        options["tls"] = context
    return options
