"""Clients of the daemon: `Client` waits for its answers, `AsyncClient` runs on asyncio.

A map, no code: `methods` has each method of the protocol once, `jsonrpc` the lines, `session` and
`event_cursor` what is said when; `sync` and `aio` do it. Neither knows the daemon's insides: all it
shares with them is `mcr.protocol`. Only `aio` loads asyncio.
"""

from .sync import Client, EventStream

__all__ = ["Client", "EventStream"]
