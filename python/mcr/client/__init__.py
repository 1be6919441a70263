"""Clients of the daemon: `Client` blocks until an answer arrives, `AsyncClient` runs on asyncio.

`methods` has the request of each method, `jsonrpc` encodes and parses lines, `session` and
`event_cursor` hold the conversation without input or output, and `sync` and `aio` add the socket.
Only `mcr.protocol` is shared with the daemon. Only `aio` loads asyncio.
"""

from .sync import Client, EventStream

__all__ = ["Client", "EventStream"]
