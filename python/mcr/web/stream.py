"""The stream of events and samples that a browser follows (HTML, server-sent events)."""

import asyncio
from contextlib import suppress

from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from . import limits
from .feed import EventFeed, StreamQueue

_HEADERS = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]


class StreamRoute:
    """Answers each request with messages until the client leaves."""

    def __init__(self, feed: EventFeed) -> None:
        """Send what this feed has."""
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if scope["method"] != "GET":
            await PlainTextResponse("use GET\n", 405)(scope, receive, send)
            return
        with self._feed.queue() as queue:
            if queue is None:
                text = f"all {limits.STREAMS} streams are in use\n"
                await PlainTextResponse(text, 503)(scope, receive, send)
                return
            sending = asyncio.create_task(_send_all(queue, send))
            leaving = asyncio.create_task(_wait_until_gone(receive))
            try:
                await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sending, leaving):
                    task.cancel()
                    with suppress(asyncio.CancelledError, OSError):
                        await task


async def _send_all(queue: StreamQueue, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    while True:
        body = await queue.take()
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
