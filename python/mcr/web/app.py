"""The routes of `mcr web`: what each path answers. None of them changes anything.

`access` decides who is answered before a request gets here.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.types import ASGIApp

from ..errors import McrError, RuleError
from ..json_codec import encode_in_pieces
from . import limits
from .access import COOKIE, AccessLayer, TokenCheck
from .findings import Findings
from .health import problems
from .metrics import DaemonMetrics
from .observer import DaemonObserver, DaemonReading
from .settings import WebSettings
from .stream import StreamRoute
from .table import TableQuery, table

_STATIC = {
    "/": ("index.html", "text/html"),
    "/login": ("login.html", "text/html"),
    "/static/style.css": ("style.css", "text/css"),
    "/static/main.js": ("main.js", "text/javascript"),
    "/static/chart.js": ("chart.js", "text/javascript"),
    "/static/latency.js": ("latency.js", "text/javascript"),
    "/static/rule.js": ("rule.js", "text/javascript"),
    "/static/rules.js": ("rules.js", "text/javascript"),
    "/static/dom.js": ("dom.js", "text/javascript"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
}
_REFUSAL = b'<p class="bad-text" role="alert">This is not the token.</p>'
_TEXT_CHARS = 200
_MOST = 10**6
Handler = Callable[[Request], Awaitable[Response]]


class WebApp:
    """The application: an observer of the daemon, and what is answered from it."""

    def __init__(self, settings: WebSettings) -> None:
        """Connect to nothing yet."""
        self._settings = settings
        self._observer = DaemonObserver(settings.socket)
        self._findings = Findings()
        self._token = TokenCheck(settings.token)
        self._turns = asyncio.Semaphore(limits.ANSWERS)
        self._refused = 0

    def asgi(self) -> ASGIApp:
        """The application for a server."""
        handlers: dict[str, Handler] = {
            "/metrics": self._metrics,
            "/readyz": self._readyz,
            "/api/overview": self._overview,
            "/api/rules": self._rules,
            "/api/rules/{rule}": self._rule,
            "/api/stats": self._stats,
            "/api/flows": self._flows,
            "/api/workers": self._workers,
            "/api/interfaces": self._interfaces,
            "/api/history": self._history,
            "/api/events": self._events,
            "/api/doctor": self._doctor,
        }
        pages = {path: partial(_static, *content) for path, content in _STATIC.items()}
        routes = [
            *(Route(path, self._in_turn(handler)) for path, handler in handlers.items()),
            *(Route(path, page, methods=["GET"]) for path, page in pages.items()),
            Route("/login", self._log_in, methods=["POST"]),
            Route("/healthz", _healthz),
            Route("/api/stream", StreamRoute(self._observer.feed)),
        ]
        app = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=_HANDLERS)
        app.router.redirect_slashes = False
        return AccessLayer(app, self._token, self._settings.accepted_hosts)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(self._observer.run())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    def _in_turn(self, handler: Handler) -> Handler:
        """Limit the number of answers in progress; their parts may be large."""

        async def answer(request: Request) -> Response:
            try:
                async with asyncio.timeout(limits.ANSWER_WAIT_S):
                    await self._turns.acquire()
            except TimeoutError:
                self._refused += 1
                text = "too many requests are in progress; repeat it later\n"
                return PlainTextResponse(text, 503, {"Retry-After": "5"})
            try:
                return _Released(await handler(request), self._turns.release)
            except BaseException:
                self._turns.release()
                raise

        return answer

    async def _reading(self) -> DaemonReading:
        reading = await self._observer.reading()
        if reading is None:
            raise HTTPException(503, problems(None, self._observer.failure)[0])
        return reading

    async def _metrics(self, request: Request) -> Response:
        metrics = DaemonMetrics(
            await self._observer.reading(),
            rules=self._settings.metric_rules,
            streams=len(self._observer.feed),
            refused=self._refused,
        )
        try:
            encode, content_type = choose_encoder(request.headers.get("accept", ""))
        except (TypeError, ValueError):  # a version that is none
            encode, content_type = choose_encoder("")
        return _bytes(await asyncio.to_thread(encode, metrics), content_type)

    async def _readyz(self, request: Request) -> Response:
        reading = await self._observer.reading()
        found = problems(reading, self._observer.failure)
        answer: dict[str, Any] = {"ready": not found}
        if request.scope["mcr.admitted"]:
            answer["problems"] = found
        return JSONResponse(answer, 503 if found else 200)

    async def _overview(self, request: Request) -> Response:
        reading = await self._reading()
        query = TableQuery(
            text=_text(request, "text"),
            state=_text(request, "state"),
            sort=_text(request, "sort"),
            descending=_text(request, "order") == "descending",
            offset=_number(request, "offset", 0, 0),
            limit=_number(request, "limit", 50, 1),
        )
        rows = await asyncio.to_thread(table, reading, query)
        return JSONResponse(
            {
                **_summary(reading),
                "interfaces": [each.as_dict() for each in reading.stats.interfaces],
                "table": rows,
                "latest": self._observer.history.latest(),
            }
        )

    async def _rules(self, _request: Request) -> Response:
        return _pieces(encode_in_pieces(await self._observer.rules(), "rules"))

    async def _rule(self, request: Request) -> Response:
        reading = await self._reading()
        wanted = request.path_params["rule"]
        stats = next((each for each in reading.stats.rules if each.id == wanted), None)
        aside = next((each for each in reading.aside if each.id == wanted), None)
        if stats is None and aside is None:
            raise HTTPException(404, f"there is no rule with the id {wanted[:_TEXT_CHARS]!r}")
        flows = await self._observer.flows(wanted, limits.FLOWS)
        return JSONResponse(
            {
                **_summary(reading),
                "rule": (stats or aside).as_dict(),  # type: ignore[union-attr]
                "history": self._observer.history.as_dict(wanted),
                "events": self._observer.feed.events(wanted),
                "flows": flows.as_dict(),
            }
        )

    async def _stats(self, _request: Request) -> Response:
        return _pieces(encode_in_pieces((await self._reading()).stats, "rules"))

    async def _flows(self, request: Request) -> Response:
        limit = min(_number(request, "limit", 1000, 1), 10_000)
        flows = await self._observer.flows(_text(request, "rule") or None, limit)
        return _pieces(encode_in_pieces(flows, "flows"))

    async def _workers(self, _request: Request) -> Response:
        reading = await self._reading()
        return JSONResponse({"workers": [worker.as_dict() for worker in reading.workers]})

    async def _interfaces(self, _request: Request) -> Response:
        found = await self._observer.interfaces()
        return JSONResponse({"interfaces": [each.as_dict() for each in found]})

    async def _history(self, request: Request) -> Response:
        return JSONResponse(self._observer.history.as_dict(_text(request, "rule") or None))

    async def _events(self, request: Request) -> Response:
        return JSONResponse({"events": self._observer.feed.events(_text(request, "rule") or None)})

    async def _doctor(self, request: Request) -> Response:
        wanted = _text(request, "rule")
        text = None
        if wanted:
            reading = await self._reading()
            texts = {rule.id: rule.rule for rule in reading.aside}
            texts |= {rule.id: rule.rule for rule in reading.stats.rules}
            text = texts.get(wanted)
            if text is None:
                raise HTTPException(404, f"there is no rule with the id {wanted!r}")
        return JSONResponse({"findings": await self._findings.about(text)})

    async def _log_in(self, request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > limits.FORM_BYTES:
                return PlainTextResponse("the form is too long\n", 413)
        try:
            given = parse_qs(body.decode("latin-1"), max_num_fields=4).get("token", [""])[0]
        except ValueError:  # more fields than the form has
            given = ""
        if not self._token.accepts(given):
            page = _content("login.html").replace(b"<!-- refusal -->", _REFUSAL)
            return Response(page, 403, media_type="text/html")
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, self._token.cookie(), httponly=True, samesite="strict")
        return answer


class _Released(Response):
    """An answer after whose end, good or bad, something is released."""

    def __init__(self, inner: Response, release: Callable[[], None]) -> None:
        self._inner = inner
        self._release = release
        self.status_code = inner.status_code
        self.background = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 -- ASGI
        try:
            await self._inner(scope, receive, send)
        finally:
            self._release()


def _summary(reading: DaemonReading) -> dict[str, Any]:
    """The members that the page shows on top of all its views."""
    return {
        "server": reading.hello.server,
        "time": reading.stats.time,
        "uptime_s": reading.stats.uptime_s,
        "revision": reading.stats.revision,
        "workers": [worker.as_dict() for worker in reading.workers],
        "problems": problems(reading, None),
    }


def _bytes(content: bytes, content_type: str) -> Response:
    """An answer in pieces, so that a client that does not read buffers one of them."""
    size = limits.PIECE_BYTES
    pieces = (content[start : start + size] for start in range(0, len(content), size))
    return _pieces(pieces, content_type)


def _pieces(pieces: Iterable[bytes], content_type: str = "application/json") -> Response:
    async def body() -> AsyncIterator[bytes]:
        gathered = bytearray()
        for piece in pieces:
            gathered += piece
            if len(gathered) >= limits.PIECE_BYTES:
                yield bytes(gathered)
                gathered.clear()
        yield bytes(gathered)

    return StreamingResponse(body(), headers={"Content-Type": content_type})


def _text(request: Request, name: str) -> str:
    text = request.query_params.get(name, "")
    if len(text) > _TEXT_CHARS:
        raise HTTPException(400, f"{name} must have at most {_TEXT_CHARS} characters")
    return text


def _number(request: Request, name: str, default: int, least: int) -> int:
    text = _text(request, name)
    if not text:
        return default
    if not (text.isascii() and text.isdecimal()) or not least <= int(text) <= _MOST:
        raise HTTPException(400, f"{name} must be an integer from {least} to {_MOST}")
    return int(text)


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _static(name: str, content_type: str, _request: Request) -> Response:
    return Response(_content(name), media_type=content_type)


def _content(name: str) -> bytes:
    return files(__package__).joinpath("static", name).read_bytes()


async def _refuse(_request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return JSONResponse({"error": str(error)}, 404 if isinstance(error, RuleError) else 503)


async def _leave(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # the client is gone and does not see it


_HANDLERS: dict[Any, Any] = {HTTPException: _refuse, McrError: _refuse, ClientDisconnect: _leave}
