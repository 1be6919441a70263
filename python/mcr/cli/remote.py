"""What the commands that ask a daemon have in common: where it is, and how its answer is printed.

Knows no command.
"""

import json
from collections.abc import Callable
from typing import TypeVar

from ..client import Client
from ..client.methods import Call

T = TypeVar("T")
_TIMEOUT_S = 60.0  # a change of thousands of rules takes a while, and a user can press Ctrl-C


def connect(socket: str | None) -> Client:
    """Return a client of the daemon."""
    return Client(socket, timeout_s=_TIMEOUT_S)


def ask(socket: str | None, call: Call[T], as_json: bool, show: Callable[[T], None]) -> None:
    """Ask one thing; print the answer as JSON, or let `show` do it for people."""
    with connect(socket) as client:
        if as_json:
            print(json.dumps(client.request(call.unread())), flush=True)
        else:
            show(client.request(call))
