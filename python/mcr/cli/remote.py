"""Requests to a daemon, and their answers as JSON or for people."""

import json
from collections.abc import Callable
from typing import TypeVar

from ..client import Client
from ..client.methods import Call
from .progress import progress

T = TypeVar("T")
WAITING = "waiting for the daemon"
"""The progress of a command that has asked the daemon."""
_TIMEOUT_S = 60.0  # thousands of rules take a while to change, and users have Ctrl-C


def connect(socket: str | None) -> Client:
    """Return a client of the daemon at this socket, by default the one of this user's daemon."""
    return Client(socket, timeout_s=_TIMEOUT_S)


def ask(socket: str | None, call: Call[T], as_json: bool, show: Callable[[T], None]) -> None:
    """Make one request; print the answer as JSON, or let `show` print it for people."""
    with connect(socket) as client:
        if as_json:
            with progress(WAITING):
                answer = client.request(call.as_dict())
            print(json.dumps(answer), flush=True)
        else:
            with progress(WAITING):
                found = client.request(call)
            show(found)
