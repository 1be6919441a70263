"""Who is answered: the header Host, the token, and the headers that protect the page.

Owns the layer in front of all routes.
"""

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import limits

COOKIE = "mcr_session"
_OPEN_PATHS = frozenset({"/healthz", "/readyz", "/login", "/static/style.css", "/static/icon.svg"})
"""What is answered without a token; /readyz without its reasons."""
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class TokenCheck:
    """Compares what clients present with the token."""

    def __init__(self, token: str | None) -> None:
        """Accept this token; None accepts every client."""
        self._token = None if token is None else token.encode()

    def accepts(self, given: str) -> bool:
        """Whether this is the token, in a time that does not depend on where they differ."""
        return self._token is None or hmac.compare_digest(given.encode(), self._token)

    def cookie(self) -> str:
        """What the cookie of a browser holds in place of the token."""
        return hmac.new(self._token or b"", b"mcr web session", hashlib.sha256).hexdigest()

    def admits(self, headers: Headers) -> bool:
        """Whether a request has the token as a bearer token, or the cookie."""
        if self._token is None:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.accepts(token.strip()):
            return True
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(
            morsel.value.encode(), self.cookie().encode()
        )


class AccessLayer:
    """Refuses requests that may not be answered, and adds headers to every answer."""

    def __init__(self, app: ASGIApp, token: TokenCheck, hosts: frozenset[str] | None) -> None:
        """Put this in front of an application.

        Args:
            app: the application.
            token: what clients have to present.
            hosts: the accepted values of the header Host, without a port; None accepts all.
        """
        self._app = app
        self._token = token
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        scope["mcr.admitted"] = self._token.admits(headers)
        refusal = self._refusal(scope, headers)
        await (refusal or self._app)(scope, receive, send_protected)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if self._hosts is not None and not self._is_host_known(headers):
            text = (
                "this server is not known under that name; use its address, or start it with"
                " --name NAME\n"
            )
            return PlainTextResponse(text, 421)
        head = (
            scope["raw_path"],
            scope["query_string"],
            *(part for pair in scope["headers"] for part in pair),
        )
        if sum(map(len, head)) > limits.HEAD_BYTES:
            return PlainTextResponse("the head of the request is too long\n", 431)
        if scope["mcr.admitted"] or scope["path"] in _OPEN_PATHS:
            return None
        if scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
            return RedirectResponse("/login", 303)
        text = "a token is needed, as 'Authorization: Bearer TOKEN' or by /login\n"
        return PlainTextResponse(text, 401, {"WWW-Authenticate": 'Bearer realm="mcr"'})

    def _is_host_known(self, headers: Headers) -> bool:
        hosts = headers.getlist("host")
        return len(hosts) == 1 and host_name(hosts[0]) in (self._hosts or ())


def host_name(value: str) -> str:
    """The name or address in a header Host, without the port and the brackets."""
    if value.startswith("["):
        return value[1:].partition("]")[0].lower()
    return value.partition(":")[0].lower().rstrip(".")
